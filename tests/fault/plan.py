# SPDX-License-Identifier: BSD-2-Clause
"""The campaigns: which faults in which order, from a seed, and the bar that each must reach. No I/O.

A plan is a list of steps, numbered by "run"; the same seed gives the same list, and a longer one begins with the shorter.
"""

import itertools
import random

SERVERS = ("driver", "ip", "tcp", "udp", "pf", "syscall")
MUTATIONS = "bitflip nop source destination pointer branch condition offbyone immediate init argument".split()
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
    return step(run, ("stop", "spin")[run // len(SERVERS) % 2], [turn(seed, run, SERVERS)])


def mutate(seed, run):
    rng, server = seeded(seed, run), turn(seed, run, SERVERS)
    return step(run, rng.choice(MUTATIONS), [server], seed=rng.getrandbits(31), watch=3, cure=True, check_idle=True)


def newtos(seed, run):
    rng = seeded(seed, run)
    server = turn(seed, run, SERVERS)
    return step(run, "minix", [server], seed=rng.getrandbits(31), watch=5, cure=True, check_idle=True)


def of_tool(kind):
    def make(seed, run):
        rng, server = seeded(seed, run), turn(seed, run, SERVERS)
        return step(run, kind, [server], seed=rng.getrandbits(31), watch=1, cure=True, check_idle=True)

    return make


def byzantine(seed, run):
    rng, mode = seeded(seed, run), turn(seed, run, BADAPP)
    return step(run, "byzantine", [], component=mode, mode=mode, seed=rng.getrandbits(31), watch=0.3, expected=[])


def resource(seed, run):
    rng = seeded(seed, run)
    return step(run, "resource", [turn(seed, run, SERVERS)], limit=rng.choice(RESOURCES), watch=1, cure=True, check_idle=True)


def network(seed, run):
    rng, mode = seeded(seed, run), turn(seed, run, ("flood", "syn", "rst", "ack", "malformed", "fragments"))
    servers = [rng.choice(SERVERS)] if run % 2 else []
    return step(run, "network", servers, component=mode, mode=mode, seed=rng.getrandbits(31))


def update(seed, run):
    return step(run, "update", [turn(seed, run, SERVERS)])


def pf(seed, run):
    return step(run, "kill", [turn(seed, run, ("pf", "ip", "pf", "driver", "pf", "tcp"))])


def quiet(_seed, run):
    return step(run, "quiet", [], component="nobody", expected=[], watch=0.5)


def sample(seed, run):
    """A little of everything, in one session."""
    makers = (kill, pairs, kill, hang, pf, kill)
    return makers[run % len(makers)](seed, run // len(makers)) | {"run": run}


class Campaign:
    """`runs` is how many the bar wants. `size`: runs of one session, before the stack is taken down and looked at. `bar`:
    name of a value of summary.py -> what it must be at least ("min") or at most ("max")."""

    def __init__(self, make, runs, bar, size=100, path="tap", warm_up=True, hammer=False):
        self.make, self.runs, self.bar, self.size = make, runs, bar, size
        self.path, self.warm_up, self.hammer = path, warm_up, hammer


ZERO = ("connections_lost", "wrong_bytes", "app_errors", "leaks", "manual", "false_restarts")
WHOLE = {name: ("max", 0) for name in ZERO}
GAPS = {"gap_p50_ms": ("max", 1), "gap_p99_ms": ("max", 10), "peer_timeouts": ("max", 0)}
CONTAINED = {"wrong_bytes": ("max", 0), "manual": ("max", 0), "reachable_percent": ("min", 99), "leaks": ("max", 0)}

CAMPAIGNS = {
    "kill": Campaign(kill, 2000, WHOLE | GAPS),
    "pairs": Campaign(pairs, 300, WHOLE),
    "rs": Campaign(rs, 300, WHOLE),
    "hang": Campaign(hang, 240, WHOLE | {"gap_p99_ms": ("max", 150)}, size=60),
    "mutate": Campaign(
        mutate, 3600, CONTAINED | {"alive_percent": ("min", 95), "least_manifested": ("min", 200)}, size=20, path="checked"
    ),
    "newtos": Campaign(
        newtos, 100, {"transparent": ("min", 95), "reachable": ("min", 100), "manual": ("max", 0)}, size=10, path="checked"
    ),
    "message": Campaign(of_tool("message"), 300, CONTAINED, size=20, path="checked"),
    "wildwrite": Campaign(of_tool("wildwrite"), 300, CONTAINED, size=20, path="checked"),
    "byzantine": Campaign(byzantine, 210, WHOLE, size=35),
    "resource": Campaign(resource, 120, CONTAINED | {"connections_lost": ("max", 0)}, size=24),
    "network": Campaign(network, 120, WHOLE, size=24, path="checked"),
    "lossy": Campaign(kill, 120, WHOLE, size=30, path="lossy"),
    "update": Campaign(update, 100, WHOLE | {"gap_p99_ms": ("max", 1), "peer_retransmissions": ("max", 0)}),
    "pf": Campaign(pf, 300, WHOLE | {"let_through": ("max", 0), "hammered": ("min", 1000)}, hammer=True),
    "fused": Campaign(lambda seed, run: step(run, "kill", ["tcp"], component="fused"), 100, WHOLE, path="fused"),
    "sample": Campaign(sample, 36, WHOLE | {"let_through": ("max", 0), "hammered": ("min", 1000)}, hammer=True),
    "quiet": Campaign(quiet, 60, WHOLE, size=60, warm_up=False),
}


def steps(campaign, seed, runs):
    return [CAMPAIGNS[campaign].make(seed, run) for run in range(runs)]
