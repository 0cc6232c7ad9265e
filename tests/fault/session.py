# SPDX-License-Identifier: BSD-2-Clause
"""One stack under the mixed workload, and the runs of a plan, one fault each. Called by session.sh, at the peer.

Appends to the output one JSON line for each run, when it is judged, and one for the session (with "session" and
without "run") at the end: leaks, errors of applications, verdict of the long streams. A run without a line was not
done; a session that ends early leaves the rest of its runs to another one.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import flows
import inject
import judge
import observe
from plan import seeded

HEAL = 60.0  # seconds after which what does not work is beyond healing
GAP_MS = 100.0  # how long after a kill a silence may begin that is its doing
READY = 20  # steps that show that a flow runs


class Broken(Exception):
    """The stack is beyond healing."""


class Spoilt(Exception):
    """It goes on, but what comes next might be the doing of what was."""


def wait_until(condition, limit):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Session:
    def __init__(self, args, plan):
        self.args, self.plan = args, plan
        self.stack = observe.Stack(args.eft, args.stack)
        self.applications = dict(word.split("=") for word in args.applications.split())
        self.injector = inject.Injector(self.stack, self.application, args)
        with open(f"{args.folder}/nginx/www/data", "rb") as f:
            self.content = f.read()
        ssh = ["ssh", "-tt", "-F", "none", "-i", f"{args.folder}/key", "-p", "2222", "-o", "StrictHostKeyChecking=no"]
        ssh += ["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", f"root@{args.address}"]
        ssh += ["stty raw -echo; echo ready; exec cat"]
        self.ssh, self.flows = ssh, []
        self.records, self.moments, self.calm = [], [], []
        self.quiet, self.recorder, self.hammer = {}, None, None

    def under_stack(self, *command):
        space = ["nsenter", f"--net=/run/netns/{self.args.stack}"]
        return [*space, self.args.eft, "run", "--name", self.args.stack, "--", *command]

    def application(self, command, timeout):
        """A program under the stack, to its end."""
        try:
            return subprocess.run(
                self.under_stack(*command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise inject.Failed(f"{command[0]} did not end in {timeout} s") from error

    def write(self, record):
        with open(self.args.output, "a", encoding="utf-8") as f:
            f.write(json.dumps(record) + "\n")

    # --- before ---

    def restarts(self):
        try:
            return {server["name"]: server["restarts"] for server in self.stack.status()["servers"]}
        except observe.NotUp:
            return {}

    def epochs(self):
        return {name: server["epoch"] for name, server in self.stack.servers().items()}

    def running(self):
        try:
            return all(server["state"] == "running" for server in self.stack.status()["servers"])
        except observe.NotUp:
            return False

    def begin_flows(self, number):
        """All flows, running. `number` tells their seeds apart."""
        seed = seeded(self.plan["seed"], f"{self.plan['session']}.{number}").getrandbits(32)
        self.flows = flows.workload(self.args.address, seed, self.content, self.ssh, self.under_stack("nc", "-d", "-w", "30"))
        self.injector.target = next(f.target for f in self.flows if isinstance(f, flows.Programs))
        for flow in self.flows:
            flow.start()
        steady = [f for f in self.flows if f.steady]
        if not wait_until(lambda: all(f.steps >= READY for f in steady), 30):
            raise Broken(f"does not start: {[f.kind for f in steady if f.steps < READY]}")

    def warm_up(self):
        """What is made once and stays is made by now: all flows have been there, and each server has died once."""
        self.begin_flows("warm")
        if self.plan["warm_up"]:
            for name, server in self.stack.servers().items():
                if not wait_until(lambda n=name: self.stack.command("crash", "kill", n)[0] == 0, 5):
                    raise Broken(f"{name} cannot be killed")
                before = server["epoch"]
                wait_until(lambda n=name, b=before: self.epochs().get(n) != b and self.running(), 10)
            self.heal(time.monotonic())
        flows.finish(self.flows)
        early = self.events()
        self.quiet = self.held_when_quiet()
        if early:
            raise Broken(f"does not live through one kill of each: {early[:3]}")

    def held(self):
        return self.stack.held(observe.with_children(map(int, self.applications.values())))

    def held_when_quiet(self):
        """Twice the same within a moment: nothing moves."""
        seen = []

        def settled():
            seen.append(self.held())
            time.sleep(0.05)
            return len(seen) > 1 and seen[-1] == seen[-2]

        wait_until(settled, 10)
        return seen[-1]

    def start(self):
        self.warm_up()
        self.recorder = observe.Recorder(f"{self.args.tools}/gaps", self.args.device, f"/dev/shm/eft-fault-{os.getpid()}")
        self.begin_flows("flows")
        if self.plan["hammer"]:
            program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hammer.py")
            self.hammer = subprocess.Popen(
                [sys.executable, program, self.args.address, "7099"], stdout=subprocess.PIPE, text=True
            )
        # Moments at which nothing is done, for comparison.
        for _ in range(10):
            self.calm.append((time.time_ns(), GAP_MS))
            time.sleep(GAP_MS / 1000)

    # --- a run ---

    def events(self, since=0.0):
        found = [e for f in self.flows for e in f.events if e["time"] >= since]
        return sorted(found, key=lambda e: e["time"])

    def moving(self, since):
        """Every flow that should has made progress after that."""
        return all(f.last > since for f in self.flows if f.steady)

    def heal(self, since):
        return wait_until(lambda: self.moving(since), HEAL) and wait_until(self.running, HEAL)

    def run(self, step):
        restarts = self.restarts()
        before, counters, begin = self.epochs(), observe.peer_counters(), time.monotonic()
        for attempt in range(20):  # a server that is just coming back
            try:
                done = self.injector.inject(step)
                break
            except inject.Failed as error:
                if attempt == 19:
                    raise Broken(f"cannot inject {step}: {error}") from error
                time.sleep(0.05)
        injected = time.monotonic()
        healed = self.heal(injected)
        after = self.epochs() if healed else before
        gone, uncalled = judge.replaced(before, after, step["expected"])
        time.sleep(seeded(self.plan["seed"], step["run"]).uniform(0.5, 1.5) * self.plan["spacing"])
        idle_alive = all(f.check() for f in self.flows if isinstance(f, flows.Idle)) if step.get("check_idle") else True
        end = time.monotonic()
        events = self.events(begin)
        if done.get("problem"):
            events.append({"time": end, "flow": "application", "event": "lost", "detail": done["problem"]})
        stalls = {f.kind: f.longest_stall(begin, end) for f in self.flows}
        slowest = max(stalls, key=stalls.get)
        manifested = done["manifested"] or bool(uncalled) or bool(events) or not healed or not idle_alive
        now = observe.peer_counters()
        record = {
            "run": step["run"],
            "session": self.plan["session"],
            "seed": self.plan["seed"],
            "component": step["component"],
            "class": step["class"],
            "fault": done["fault"],
            "time_ns": done["time_ns"],
            "injected": done["injected"],
            "activated": done["activated"],
            "manifested": manifested,
            "outcome": judge.outcome(events, stalls[slowest], manifested, healed),
            "corrupt": sum(e["event"] == "corrupt" for e in events),
            "lost": sum(e["event"] == "lost" for e in events),
            "stall_ms": round(stalls[slowest] * 1000, 1),
            "slowest": slowest,
            "replaced": sorted(gone),
            "uncalled": sorted(uncalled),
            "restarts": {name: n - restarts.get(name, 0) for name, n in self.restarts().items() if n != restarts.get(name, 0)},
            "events": events[:20],
            "peer": {name: now[name] - counters[name] for name in now},
        }
        self.records.append(record)
        # A death is over within moments, and its silence is looked for there; of what takes its time, all of it.
        first = done.get("first_ns", done["time_ns"])
        window = GAP_MS if step["class"] in ("kill", "update") else (end - injected) * 1000
        self.moments.append((first, (done["time_ns"] - first) / 1e6 + window))
        word = f"run {step['run']:>5} {step['component']:<8} {step['class']:<12} {record['outcome']:<12}"
        print(f"{word} longest stall {record['stall_ms']:.0f} ms ({slowest})", flush=True)
        for event in events[:3]:
            print(f"    {event['flow']}: {event['event']}: {event['detail']}", flush=True)
        if not healed:
            raise Broken(f"run {step['run']}")
        if self.plan["fresh"] and (record["outcome"] not in ("masked", "transparent", "degraded") or record["corrupt"]):
            raise Spoilt(f"run {step['run']}")

    # --- after ---

    def end(self, problem):
        time.sleep(0 if problem else self.plan["settle"])
        begin = time.monotonic()
        idle = [f for f in self.flows if isinstance(f, flows.Idle) and f.is_alive()]
        if not problem:
            for flow in idle:
                flow.check()
        ended = flows.finish(self.flows)
        hammered = {}
        if self.hammer:
            self.hammer.terminate()
            hammered = json.loads(self.hammer.communicate(timeout=10)[0])
        late = self.events(begin) if not problem else []
        gaps = []
        if self.recorder:
            self.recorder.end()
            gaps = self.recorder.longest(self.moments + self.calm)
        for record, gap in zip(self.records, gaps):
            record["gap_ms"] = gap
        shown = set()
        for record in self.records:  # one of each component is enough to see what it does to the rate
            if record["component"] not in shown and record["injected"]:
                shown.add(record["component"])
                record["rate"] = self.recorder.rate(record["time_ns"])
        for record in self.records:
            self.write(record)
        if self.recorder:
            os.unlink(self.recorder.file)
        held = {} if problem else self.held_again()
        self.write(
            {
                "session": self.plan["session"],
                "runs": len(self.records),
                "path": self.plan["path"],
            "quiet": self.quiet,
                "problem": problem,
                "events": late,
                "ended": ended,
                "hammered": hammered,
                "leaks": judge.leaks(self.quiet, held) if held else [],
                "app_errors": self.application_errors(),
                "connections": sum(f.opened for f in self.flows),
                "repeated": {f.kind: f.repeated for f in self.flows if f.repeated},
                "verified_mb": round(sum(f.verified for f in self.flows if isinstance(f, flows.Bulk)) / 16),
                "calm_gap_ms": gaps[len(self.records) :],
            }
        )

    def held_again(self):
        """What is held when all flows have ended; a moment is allowed for the last to be put away."""
        seen = {}

        def same():
            seen.update(self.held())
            return not judge.leaks(self.quiet, seen)

        try:
            wait_until(same, 15)
        except observe.NotUp:
            return {"stack": "gone"}
        return seen

    def application_errors(self):
        found = []
        for name, pid in self.applications.items():
            if not os.path.exists(f"/proc/{pid}"):
                found.append(f"{name}: has ended")
            files = [f"{self.args.folder}/{name}.log"] + ([f"{self.args.folder}/nginx/error.log"] if name == "nginx" else [])
            for file in files:
                if os.path.exists(file):
                    with open(file, encoding="utf-8", errors="replace") as f:
                        found += [f"{name}: {line}" for line in judge.application_errors(name, f.read())]
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("plan", "output", "folder", "applications", "eft", "tools", "stack", "address", "device"):
        parser.add_argument("--" + name, required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with open(args.plan, encoding="utf-8") as f:
        plan = json.load(f)
    session, problem, status = Session(args, plan), "", 0
    try:
        session.start()
        for step in plan["steps"]:
            session.run(step)
    except Broken as error:
        problem = str(error)
    except Spoilt:
        pass
    except inject.Impossible as error:
        print(f"not possible: {error}", flush=True)
        status = 3
    except observe.NotUp as error:
        problem = f"the stack is gone: {error}"
    session.end(problem)
    if problem:
        print(f"session {plan['session']} ends early: {problem}", flush=True)
    return status


sys.exit(main())
