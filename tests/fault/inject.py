# SPDX-License-Identifier: BSD-2-Clause
"""How each fault is brought about. All of it with `eft crash`, `eft update` or what any peer or application can do.

A step of a plan says "class" and, for most, "servers"; inject() does it and returns what is known about it: "time_ns" (of
CLOCK_REALTIME), "injected" (how many), "activated" (None: cannot be known), "fault" (for people). It raises
Impossible when the stack has no such thing: a campaign must not pass by doing nothing.
"""

import json
import os

import signal
import subprocess
import time



class Impossible(Exception):
    """This stack cannot be treated so (yet)."""


class Failed(Exception):
    """The fault was not injected; the step counts for nothing."""


def last_json(text):
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


class Injector:
    """Faults for one stack. `application` runs a program under it."""

    def __init__(self, stack, application, tools, address, device):
        self.stack, self.application, self.tools = stack, application, tools
        self.address, self.device = address, device
        self.background = []

    def inject(self, step):
        how = getattr(self, "do_" + step["class"].replace("-", "_"), self.by_crash_tool)
        return how(step)

    def cure(self, step):
        """What a step leaves behind in a process that did not die of it goes with the process."""
        if not step.get("cure"):
            return
        for server in step["servers"]:
            self.stack.command("crash", "kill", server)

    # --- signals ---

    def kill(self, servers, patience=0.0):
        """Kills all at once; with `patience` tries again while one of them is not there. The last time."""
        end = time.monotonic() + patience
        while True:
            rc, out, error = self.stack.command("crash", "kill", *servers, "--json")
            if rc == 0:
                return max(k["time_ns"] for k in json.loads(out)["killed"])
            if time.monotonic() >= end:
                raise Failed(error)

    def do_kill(self, step):
        if "rs" in step["servers"]:
            self.need_keeper()
        first = last = self.kill(step["servers"], 1)
        again = step.get("again")
        if again:  # while those recover
            time.sleep(again["after_ms"] / 1000)
            last = self.kill(again["servers"], 1)
        what = "kill " + " ".join(step["servers"])
        if again:
            what += f", {' '.join(again['servers'])} {(last - first) / 1e6:.1f} ms later"
        return {"time_ns": last, "first_ns": first, "injected": 1, "activated": True, "fault": what}

    def need_keeper(self):
        """Nothing starts eft-rs again if nobody watches it: then its death is the stack's."""
        if not os.path.exists(os.path.join(os.path.dirname(self.stack.eft), "eft-keeper")):
            raise Impossible("nobody brings eft-rs back: without it the stack ends")

    def pid(self, server):
        try:
            return self.stack.status()["pid"] if server == "rs" else self.stack.servers()[server]["pid"]
        except KeyError as error:
            raise Failed(f"no {server}") from error

    def do_stop(self, step):
        """Stopped from outside, as a debugger or an operator by mistake would."""
        server = step["servers"][0]
        if server == "rs":
            self.need_keeper()
        pid, now = self.pid(server), time.time_ns()
        os.kill(pid, signal.SIGSTOP)
        return {"time_ns": now, "injected": 1, "activated": True, "fault": f"stop {server}"}

    # --- the crash tool ---

    def by_crash_tool(self, step):
        """Any other class is the crash tool's."""
        server, kind = step["servers"][0], step["class"]
        words = ["crash", kind, server, "--seed", str(step["seed"]), "--json", *step.get("options", [])]
        before = time.time_ns()
        rc, out, error = self.stack.command(*words, timeout=60)
        if rc == 2:
            raise Impossible(f"eft crash has no class {kind}: {error.splitlines()[0] if error else ''}")
        said = last_json(out)
        if rc != 0 or not said:
            raise Failed(error)
        activated = said.get("activated")
        return {
            "time_ns": said.get("time_ns", before),
            "injected": said.get("injected", 1),
            "activated": activated if isinstance(activated, (bool, int)) else None,
            "fault": said,
        }

    # --- other ends ---

    def do_update(self, step):
        server, before = step["servers"][0], time.time_ns()
        rc, _, error = self.stack.command("update", server)
        if rc == 2:
            raise Impossible("eft has no command update")
        if rc != 0:
            raise Failed(error)
        return {"time_ns": before, "injected": 1, "activated": True, "fault": f"update {server}"}

    def do_byzantine(self, step):
        """An application that writes into all that it may write, then dies; see tests/proc/badapp.py."""
        now = time.time_ns()
        badapp = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "proc", "badapp.py")
        done = self.application(
            ["/usr/bin/python3", badapp, step["mode"], str(step["seed"]), step["peer"], str(step["port"])], timeout=60
        )
        if done.returncode not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
            raise Failed(f"badapp: {done.stdout[-200:]}")
        return {"time_ns": now, "injected": 1, "activated": True, "fault": f"application: {step['mode']}"}

    def do_network(self, step):
        """Frames that nobody should send, and a death among them."""
        now = time.time_ns()
        if step["mode"] == "flood":
            tool = [f"{self.tools}/flood", self.device, self.address, "7000", "40000", "40000", str(step["seed"])]
        else:
            tool = [f"{self.tools}/hostile", self.device, self.address, "7000", step["mode"], "20000", str(step["seed"])]
        with subprocess.Popen(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            last = self.kill(step["servers"], 1) if step["servers"] else now
            said, _ = process.communicate(timeout=60)
            if process.returncode != 0:
                raise Failed(said[-200:])
        what = f"{step['mode']}: {said.strip()}" + "".join(f"; kill {s}" for s in step["servers"])
        return {"time_ns": last, "injected": 1, "activated": True, "fault": what}

    def do_resource(self, step):
        """A server has no more of something (prlimit), then dies: so does its successor start."""
        server, (what, limit) = step["servers"][0], step["limit"]
        pid, now = self.pid(server), time.time_ns()
        done = subprocess.run(["prlimit", "--pid", str(pid), f"--{what}={limit}"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(done.stderr)
        return {"time_ns": now, "injected": 1, "activated": None, "fault": f"{server}: {what} {limit}"}

    def do_quiet(self, _step):
        return {"time_ns": time.time_ns(), "injected": 0, "activated": False, "fault": "nothing"}




