# SPDX-License-Identifier: BSD-2-Clause
"""What can be seen of a stack without taking part in its traffic: its status, what it holds, the peer's counters,
the packets that the peer received."""

import json
import os
import signal
import subprocess
import time


class NotUp(Exception):
    """The stack does not answer."""


class Stack:
    """`eft` for one stack."""

    def __init__(self, eft, name):
        self.eft, self.name = eft, name

    def command(self, *words, timeout=30):
        """Status, what it printed, what it complained of."""
        try:
            done = subprocess.run(
                [self.eft, *words, "--name", self.name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1, "", f"eft {words[0]} did not end in {timeout} s"
        return done.returncode, done.stdout, done.stderr.strip()

    def status(self):
        rc, out, error = self.command("status", "--json", "--interval", "0")
        if rc != 0:
            raise NotUp(error)
        return json.loads(out)

    def servers(self):
        """Name without number -> what status says, once for each component that a process hosts."""
        found = {}
        for server in self.status()["servers"]:
            for component in server["components"]:
                found[component.rstrip("0123456789")] = server
        return found

    def held(self, programs):
        """What must be the same again when all is quiet: descriptors, applications, buffers.

        A thread of an application that waits for the first time gets a pair of sockets, which stays: one end is the
        application's, the other is tcp's and udp's; rs keeps both. How many that are depends on the moment: they are taken
        off. `programs`: pids of applications, whose sockets of the kernel are only those."""
        status = self.status()
        counters = {name: c for s in status["servers"] for name, c in s["counters"].items()}
        driver, pairs, held = counters["driver0"], sum(map(sockets, programs)), {}
        for s in status["servers"]:
            hold = sum(component.startswith(("tcp", "udp")) for component in s["components"])
            held[f"{s['name']} descriptors"] = descriptors(s["pid"]) - hold * pairs
        return held | {
            "rs descriptors": descriptors(status["pid"]) - 2 * pairs,
            "applications": status["applications"],
            "frames": sum(driver[f"frames_{where}"] for where in ("free", "fill", "out", "tx")),
            "frames out": driver["frames_out"] + driver["frames_tx"],
            "udp sockets": counters["udp0"]["sockets"],
            "control clients": counters["syscall0"]["clients"],
        }


def descriptors(pid):
    return len(links(pid))


def sockets(pid):
    return sum(link.startswith("socket:") for link in links(pid))


def links(pid):
    """What the descriptors of a process refer to; nothing if it is gone."""
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    except OSError:
        pass
    return found


def with_children(pids):
    """These processes and all that descend from them."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as f:
                parents[int(name)] = int(f.read().rpartition(")")[2].split()[1])
        except OSError:
            pass
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


PEER_COUNTERS = ("TCPTimeouts", "RetransSegs", "TCPLossProbes", "TCPAbortOnTimeout", "EstabResets", "InCsumErrors")


def peer_counters():
    """Of the network namespace that we are in."""
    values = {}
    for file in ("netstat", "snmp"):
        with open(f"/proc/self/net/{file}", encoding="ascii") as f:
            lines = f.read().splitlines()
        for names, numbers in zip(lines[::2], lines[1::2]):
            if names.startswith(("TcpExt:", "Tcp:")):
                values |= dict(zip(names.split()[1:], map(int, numbers.split()[1:])))
    return {name: values.get(name, 0) for name in PEER_COUNTERS}


def clock_offset():
    """Nanoseconds of CLOCK_REALTIME at CLOCK_MONOTONIC 0: flows use one, packets and kills the other."""
    return time.time_ns() - time.monotonic_ns()


class Recorder:
    """tests/tools/gaps: when, and how much, the stack sent to the peer."""

    def __init__(self, gaps, device, file):
        self.gaps, self.file = gaps, file
        self.process = subprocess.Popen(
            [gaps, "record", "--dev", device, "--direction", "in", "--output", file], stdout=subprocess.PIPE, text=True
        )
        if self.process.stdout.readline().strip() != "recording":
            raise OSError("the recording does not start")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)

    def longest(self, moments):
        """Milliseconds of the longest silence for each (time_ns, for how many ms after it)."""
        said = subprocess.run(
            [self.gaps, "report", self.file, "--before-ms", "2"],
            input="".join(f"{at}:{after:.3f}\n" for at, after in moments),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [kill["gap_ms"] for kill in json.loads(said.stdout)["kills"]] if moments else []

    def rate(self, at, before=200, after=600, bin_ms=10):
        """[ms from the moment, bytes, packets] for each bin."""
        said = subprocess.run(
            [self.gaps, "rate", self.file, "--before-ms", str(before), "--after-ms", str(after), "--bin-ms", str(bin_ms), str(at)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [[float(ms), int(size), int(n)] for ms, size, n in (line.split() for line in said.stdout.splitlines())]
