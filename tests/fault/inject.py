# SPDX-License-Identifier: BSD-2-Clause
"""How each fault is brought about. All of it with `eft crash`, `eft update` or what any peer or application can do.

A step of a plan says "class" and, for most, "servers"; inject() does it and returns what is known about it: "time_ns" (of
CLOCK_REALTIME), "injected" and "activated" (how many), "manifested" (as far as is known here), "fault" (for people). It raises
Impossible when the stack has no such thing: a campaign must not pass by doing nothing.
"""

import json
import os

import signal
import subprocess
import sys
import threading
import time

from flows import PORTS

USAGE = 2  # exit status of eft: it does not know the words
PEER = "10.9.0.1"  # whom floods pretend to come from, sometimes



class Impossible(Exception):
    """This stack cannot be treated so (yet)."""


class Failed(Exception):
    """The fault was not injected; the step counts for nothing."""


class Injector:
    """Faults for one stack. `application` runs a program under it; `target`: a port at the peer that sends a lot."""

    def __init__(self, stack, application, args):
        self.stack, self.application, self.target = stack, application, None
        self.tools, self.address, self.device = args.tools, args.address, args.device

    def inject(self, step):
        how = getattr(self, "do_" + step["class"].replace("-", "_"), self.by_crash_tool)
        return how(step)

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
        return {"time_ns": last, "first_ns": first, "injected": 1, "activated": 1, "manifested": True, "fault": what}

    def need_keeper(self):
        """Nothing starts eft-rs again if nobody watches it: then its death is the stack's."""
        pid = self.stack.status()["pid"]
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            parent = f.read().rpartition(")")[2].split()[1]
        with open(f"/proc/{parent}/comm", encoding="ascii", errors="replace") as f:
            name = f.read().strip()
        if name not in ("eft-keeper", "systemd"):
            raise Impossible("nobody brings eft-rs back: the stack ends with it")

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
        return {"time_ns": now, "injected": 1, "activated": 1, "manifested": True, "fault": f"stop {server}"}

    # --- the crash tool ---

    def by_crash_tool(self, step):
        """Any other class is the crash tool's. It watches the victim, too, and kills what outlives the watch."""
        server, kind, window = step["servers"][0], step.get("tool", step["class"]), step["watch_ms"]
        words = ["crash", kind, server, "--seed", str(step["seed"]), "--window", str(window), "--after", "kill", "--json"]
        now = time.time_ns()
        rc, out, error = self.stack.command(*words, *step.get("options", []), timeout=60 + window / 1000)
        if rc == USAGE:
            raise Impossible(f"eft crash {kind}: {error.splitlines()[0] if error else 'unknown'}")
        said = next((json.loads(line) for line in reversed(out.splitlines()) if line.startswith("{")), {})
        if not said.get("injected"):
            # The victim was not what it must be; a run without a fault stays in the books as one.
            return {"time_ns": now, "injected": 0, "activated": 0, "manifested": False, "fault": error or said}
        faults = said.get("faults") or [said]
        return {
            "time_ns": said.get("time_ns", now),
            "injected": len(faults),
            "activated": sum(f.get("activated") is True for f in faults),
            "manifested": bool(said.get("manifested")),
            "fault": said,
        }

    # --- other ends ---

    def do_update(self, step):
        server, before = step["servers"][0], time.time_ns()
        rc, _, error = self.stack.command("update", server)
        if rc == USAGE:
            raise Impossible(error.splitlines()[0] if error else "eft has no command update")
        if rc != 0:
            raise Failed(error)
        return {"time_ns": before, "injected": 1, "activated": 1, "manifested": True, "fault": f"update {server}"}

    def do_byzantine(self, step):
        """An application that writes into all that it may write, then dies; see tests/proc/badapp.py."""
        now = time.time_ns()
        badapp = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "proc", "badapp.py")
        host, port = self.target
        done = self.application([sys.executable, badapp, step["mode"], str(step["seed"]), host, str(port)], timeout=60)
        if done.returncode not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
            raise Failed(f"badapp: {done.stdout[-200:]}")
        return {"time_ns": now, "injected": 1, "activated": 1, "manifested": False, "fault": f"application: {step['mode']}"}

    def do_network(self, step):
        """Frames that nobody should send, and a death among them."""
        now = time.time_ns()
        tool = [f"{self.tools}/flood", self.device, self.address, str(PORTS["echo"]), "20000", "20000", str(step["seed"])]
        tool += [step["mode"], PEER]
        with subprocess.Popen(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            last = self.kill(step["servers"], 1) if step["servers"] else now
            said, _ = process.communicate()
            if process.returncode != 0:
                raise Failed(said[-200:])
        what = f"{step['mode']}: {said.strip()}" + "".join(f"; kill {s}" for s in step["servers"])
        return {"time_ns": last, "injected": 1, "activated": 1, "manifested": bool(step["servers"]), "fault": what}

    def do_resource(self, step):
        """A server may have no more of something (prlimit) while an application comes; then it dies of nothing else, and
        the application must be served."""
        server, (what, limit) = step["servers"][0], step["limit"]
        pid, now = self.pid(server), time.time_ns()
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            ids = {line.split()[0]: line.split()[1] for line in f if line.startswith(("Uid:", "Gid:"))}
        # As the server's user: root in a container may not have CAP_SYS_RESOURCE.
        who = ["setpriv", f"--reuid={ids['Uid:']}", f"--regid={ids['Gid:']}", "--clear-groups"]
        done = subprocess.run(
            [*who, "prlimit", "--pid", str(pid), f"--{what}={limit}"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failed(done.stderr)
        served = []

        def attach():
            try:
                served.append(self.application(["nc", "-z", "-w", "20", *map(str, self.target)], 30).returncode)
            except Failed as error:
                served.append(str(error))

        thread = threading.Thread(target=attach)
        thread.start()
        thread.join(step["watch_ms"] / 1000)
        last = self.kill([server], 1)
        thread.join(40)
        problem = "" if served == [0] else f"an application was not served: {served}"
        found = {"time_ns": last, "first_ns": now, "injected": 1, "activated": 1, "manifested": True}
        return found | {"fault": f"{server}: {what} {limit}, killed", "problem": problem}

    def do_quiet(self, _step):
        return {"time_ns": time.time_ns(), "injected": 0, "activated": 0, "manifested": False, "fault": "nothing"}




