# SPDX-License-Identifier: BSD-2-Clause
"""The verdict on one run, from what was seen at the peer. No clock, no I/O.

The worst that happened decides, in the order of OUTCOMES. Silent corruption stands apart: it is counted
whatever else was seen.
"""

OUTCOMES = (
    "masked",  # nothing was seen
    "transparent",  # a server died or hung and was replaced; every connection lived on, every byte was right
    "degraded",  # the same, but some flow stood still for more than a second
    "lost",  # a connection ended that should not
    "unreachable",  # new connections did not come about for a while; then all worked again by itself
    "manual",  # it did not; somebody had to start the stack anew
)
DEGRADED_S = 1.0


def outcome(events, stall_s, manifested, healed):
    """Of a run: events of flows.Flow.event, the longest stall of any flow, whether the fault showed in a server,
    whether all flows made progress again at the end."""
    kinds = {event["event"] for event in events}
    if not healed:
        return "manual"
    if "refused" in kinds:
        return "unreachable"
    if kinds & {"lost", "corrupt"}:
        return "lost"
    if stall_s > DEGRADED_S:
        return "degraded"
    return "transparent" if manifested else "masked"


def leaks(before, after):
    """What a quiet stack holds now and did not before, or no longer: (name, before, after)."""
    return [(name, before.get(name), after.get(name)) for name in before | after if before.get(name) != after.get(name)]


def replaced(before, after, expected):
    """Of {server: epoch}: who was replaced, and who of them although it was not in `expected`."""
    gone = {name for name in before if after.get(name) != before[name]}
    return gone, gone - set(expected)


def application_errors(name, log):
    """Lines of an application's log that say that a call failed."""
    marks = {
        "nginx": ("[error]", "[crit]", "[alert]", "[emerg]"),
        "dropbear": ("Early exit", "rror", "imeout"),
    }.get(name, ("connection:", "datagram:", "corrupt:", "let through", "Traceback", "Error", "dnsmasq: failed"))
    harmless = "syslogin_perform_logout"  # dropbear finds no record of logins in a container
    return [x for x in log.splitlines() if any(mark in x for mark in marks) and harmless not in x]
