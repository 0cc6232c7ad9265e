# SPDX-License-Identifier: BSD-2-Clause
"""The campaigns: which faults in which order, from a seed, and the bar that each must reach. No I/O.

A plan is a list of steps, numbered by "run"; the same seed gives the same list, and a longer one begins with the shorter.
"""

import collections
import itertools
import random

SERVERS = ("driver", "ip", "tcp", "udp", "pf", "syscall")
BADAPP = ("counters", "slots", "queue", "page", "bell", "close", "die")
RESOURCES = (("nofile", "16:16"), ("as", "1:1"), ("memlock", "0:0"), ("stack", "65536:65536"))


def seeded(seed, number):
    """A generator for one run, the same whatever was drawn for others."""
    return random.Random(f"{seed}/{number}")


def turn(seed, run, names):
    """All in turn, each round in another order."""
    order = list(names)
    seeded(seed, f"round {run // len(order)}").shuffle(order)
    return order[run % len(order)]


def step(run, kind, servers, **more):
    servers = list(servers)
    return {"run": run, "class": kind, "servers": servers, "component": "+".join(servers), "expected": servers} | more


def kill(seed, run):
    """Each in turn; one in five dies again, or another one dies, while it recovers."""
    rng, server = seeded(seed, run), turn(seed, run, SERVERS)
    made = step(run, "kill", [server])
    if rng.random() < 0.2:
        other = server if rng.random() < 0.5 else rng.choice(SERVERS)
        made["again"] = {"servers": [other], "after_ms": rng.choice((0, 0, 1, 2, 5, 10))}
        made["expected"] = [server, other]
    return made


def pairs(seed, run):
    return step(run, "kill", turn(seed, run, list(itertools.combinations(SERVERS, 2))))


def rs(seed, run):
    """Alone, with each server, and during the recovery of each."""
    rng, server = seeded(seed, run), turn(seed, run, SERVERS)
    if run % 3 == 0:
        return step(run, "kill", ["rs"], expected=[])
    if run % 3 == 1:
        return step(run, "kill", [server, "rs"], expected=[server])
    return step(run, "kill", [server], expected=[server]) | {"again": {"servers": ["rs"], "after_ms": rng.choice((0, 1, 3))}}


def hang(seed, run):
    server = turn(seed, run, SERVERS)
    if run // len(SERVERS) % 2:
        return step(run, "spin", [server], seed=seeded(seed, run).getrandbits(31), watch_ms=5000)
    return step(run, "stop", [server])


def fault(seed, run):
    """Each ends by a fault, in one way after the other."""
    kind = ("segv", "abort", "exit")[run // len(SERVERS) % 3]
    return step(run, kind, [turn(seed, run, SERVERS)], seed=seeded(seed, run).getrandbits(31), watch_ms=3000)


def of_tool(tool, watch_ms, *options):
    """A class of `eft crash`, for each server in turn."""

    def make(seed, run):
        rng, server = seeded(seed, run), turn(seed, run, SERVERS)
        made = step(run, tool, [server], seed=rng.getrandbits(31), watch_ms=watch_ms, check_idle=True)
        return made | {"options": list(options)}

    return make


def byzantine(seed, run):
    rng, mode = seeded(seed, run), turn(seed, run, BADAPP)
    return step(run, "byzantine", [], component=mode, mode=mode, seed=rng.getrandbits(31), expected=[])


def resource(seed, run):
    rng = seeded(seed, run)
    return step(run, "resource", [turn(seed, run, SERVERS)], limit=rng.choice(RESOURCES), watch_ms=1000, check_idle=True)


def network(seed, run):
    rng, mode = seeded(seed, run), turn(seed, run, ("syn", "rst", "ack", "malformed", "fragments"))
    servers = [rng.choice(SERVERS)] if run % 2 else []
    return step(run, "network", servers, component=mode, mode=mode, seed=rng.getrandbits(31))


def update(seed, run):
    return step(run, "update", [turn(seed, run, SERVERS)])


def pf(seed, run):
    return step(run, "kill", [turn(seed, run, ("pf", "ip", "pf", "driver", "pf", "tcp"))])


def quiet(_seed, run):
    return step(run, "quiet", [], component="nobody", expected=[])


def sample(seed, run):
    """A little of everything, in one session."""
    makers = (kill, pairs, fault, byzantine, rs, hang, network, pf, resource)
    return makers[run % len(makers)](seed, run // len(makers)) | {"run": run}


class Campaign:
    """`runs` is how many the bar wants. `size`: runs of one session, before the stack is taken down and looked at. `bar`:
    name of a value of summary.py -> what it must be at least ("min") or at most ("max"). `fresh`: a run that did harm is the
    last of its session, so that none is blamed for what another did. `spacing`: mean seconds from recovery to the next fault; so
    long for faults that a server has lived for ten seconds when its turn comes again, or rs would let it wait. `counts`: what of the runs counts: all; "manifested",
    those in which the fault showed; "component", the same, of the component that has the least."""

    def __init__(self, make, runs, bar, size=100, path="tap", counts="runs", warm_up=True, hammer=False, fresh=False, spacing=0.2):
        self.make, self.runs, self.bar, self.size, self.path = make, runs, bar, size, path
        self.counts, self.warm_up, self.hammer, self.fresh = counts, warm_up, hammer, fresh
        self.spacing = spacing

    @property
    def unit(self):
        return {"runs": "runs", "manifested": "manifested faults", "component": "manifested faults of each component"}[self.counts]

    def done(self, records):
        if self.counts == "runs":
            return len(records)
        shown = [r["component"] for r in records if r["manifested"]]
        return len(shown) if self.counts == "manifested" else min(shown.count(s) for s in SERVERS)


ZERO = ("connections_lost", "wrong_bytes", "app_errors", "leaks", "manual", "false_restarts")
WHOLE = {name: ("max", 0) for name in ZERO}
GAPS = {"gap_p50_ms": ("max", 1), "gap_p99_ms": ("max", 10), "peer_timeouts": ("max", 0)}
HARMLESS = {"wrong_bytes": ("max", 0), "manual": ("max", 0)}
# Of what is only written into memory, little shows in the process that did it: all runs count.
CONTAINED = HARMLESS | {"contained_percent": ("min", 99), "leaks": ("max", 0)}
MUTATED = HARMLESS | {"reachable_percent": ("min", 99), "alive_percent": ("min", 95)}
NEWTOS = {"transparent_percent": ("min", 95), "reachable_percent": ("min", 100), "manual": ("max", 0)}
BLOCKED = {"let_through": ("max", 0), "hammered": ("min", 1000)}
CODE = {"path": "checked", "size": 20, "fresh": True, "spacing": 2}

CAMPAIGNS = {
    "kill": Campaign(kill, 2000, WHOLE | GAPS),
    "pairs": Campaign(pairs, 300, WHOLE),
    "fault": Campaign(fault, 180, WHOLE, size=36, spacing=2),
    "rs": Campaign(rs, 300, WHOLE),
    "hang": Campaign(hang, 240, WHOLE | {"gap_p99_ms": ("max", 150)}, size=60),
    "mutate": Campaign(of_tool("mutate", 3000), 200, MUTATED, counts="component", **CODE),
    "newtos": Campaign(
        of_tool("mutate", 10000, "--mode", "minix", "--count", "100"), 100, NEWTOS, counts="manifested", **CODE
    ),
    "message": Campaign(of_tool("message", 1000), 300, CONTAINED, **CODE),
    "wildwrite": Campaign(of_tool("wildwrite", 1000), 300, CONTAINED, **CODE),
    "byzantine": Campaign(byzantine, 210, WHOLE, size=35),
    "resource": Campaign(resource, 120, WHOLE, size=24),
    "network": Campaign(network, 120, WHOLE, size=24, path="checked"),
    "lossy": Campaign(kill, 120, WHOLE, size=30, path="lossy"),
    "update": Campaign(update, 100, WHOLE | {"gap_p99_ms": ("max", 1), "peer_retransmissions": ("max", 0)}),
    "pf": Campaign(pf, 300, WHOLE | BLOCKED, hammer=True),
    "fused": Campaign(lambda seed, run: step(run, "kill", ["tcp"], component="fused", expected=list(SERVERS)), 100, WHOLE, path="fused"),
    "sample": Campaign(sample, 36, WHOLE | BLOCKED, hammer=True),
    "quiet": Campaign(quiet, 60, WHOLE, size=60, warm_up=False),
}


def steps(campaign, seed, runs):
    return [CAMPAIGNS[campaign].make(seed, run) for run in range(runs)]


def next_steps(campaign, seed, records, wanted):
    """What the next session does, after these records: none if there are enough of them. A component that has shown
    enough faults waits for the others, if that is what counts."""
    if campaign.done(records) >= wanted:
        return []
    known, found = {r["run"] for r in records}, []
    shown = collections.Counter(r["component"] for r in records if r["manifested"])
    for run in itertools.count():
        made = campaign.make(seed, run)
        full = campaign.counts == "component" and shown[made["component"]] >= wanted
        if run not in known and not full:
            found.append(made)
        if len(found) == campaign.size or (campaign.counts == "runs" and run == wanted - 1):
            return found
    return []
