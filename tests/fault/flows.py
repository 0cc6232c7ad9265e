# SPDX-License-Identifier: BSD-2-Clause
"""The mixed workload, at the peer: every kind of traffic at once, each judged by whoever sends it.

A flow is a thread that talks to an application on the stack. It notes each step forward (`beat`), from which
stalls follow, and reports what must not happen (`event`): "lost", a connection that ended in an error or too
early; "refused", a new one that did not come about; "corrupt", other bytes than the ones that must be there.
After such an event it begins again, so that what came back can be told from what did not. Datagrams may get
lost: they are asked for again, and only counted.

Nothing here knows what is done to the stack. Times are seconds of CLOCK_MONOTONIC.
"""

import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time

from stream import Corrupt

STALL = 0.02  # a pause that is worth remembering
PATIENCE = 30.0  # without any progress for so long, a connection counts as lost
HALF_CLOSED_PARTS = 40  # as in server.py
PORTS = {"echo": 7000, "stream": 7001, "http": 80, "dns": 53, "ssh": 2222, "tick": 7002}


class Refused(OSError):
    """A new connection did not come about."""


class Flow(threading.Thread):
    """One kind of traffic. `steady`: it makes progress all the time while the stack works."""

    steady = True

    def __init__(self, address, seed):
        super().__init__(daemon=True)
        self.address, self.rng = address, random.Random(seed)
        self.stopping = threading.Event()
        self.events, self.stalls = [], []
        self.opened = self.steps = self.repeated = 0
        self.last = time.monotonic()

    @property
    def kind(self):
        return type(self).__name__.lower()

    def beat(self):
        now = time.monotonic()
        if self.steady and now - self.last > STALL:
            self.stalls.append((self.last, now))
        self.last = now
        self.steps += 1

    def event(self, what, detail=""):
        self.events.append({"time": time.monotonic(), "flow": self.kind, "event": what, "detail": detail})

    def longest_stall(self, begin, end):
        """Seconds of the longest pause that overlaps [begin, end], with the one that still lasts."""
        pauses = [*self.stalls, (self.last, end)] if self.steady else self.stalls
        return max((min(b, end) - a for a, b in pauses if b > begin and a < end), default=0.0)

    def run(self):
        while not self.stopping.is_set():
            try:
                self.traffic()
                continue
            except Corrupt as error:
                self.event("corrupt", str(error))
            except Refused as error:
                self.event("refused", str(error))
            except OSError as error:
                self.event("lost", f"{type(error).__name__}: {error}")
            self.stopping.wait(0.1)

    def connect(self, service):
        try:
            s = socket.create_connection((self.address, PORTS[service]), timeout=PATIENCE)
        except OSError as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        self.opened += 1
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def open_echo(self, kind=b"e"):
        s = self.connect("echo")
        s.sendall(kind)
        return s

    def receive(self, s, size):
        data = bytearray()
        while len(data) < size:
            part = s.recv(size - len(data))
            if not part:
                raise OSError(f"end of stream after {len(data)} of {size} bytes")
            data += part
        return bytes(data)

    def exchange(self, s, data):
        s.sendall(data)
        if self.receive(s, len(data)) != data:
            raise Corrupt(f"message {self.steps}")
        self.beat()

    def end_of_stream(self, s):
        if s.recv(1):
            raise Corrupt("bytes after the end")


class Talk(Flow):
    """Small messages back and forth on one connection."""

    def traffic(self):
        with self.open_echo() as s:
            while not self.stopping.wait(0.002):
                self.exchange(s, self.rng.randbytes(self.rng.randrange(1, 200)))


class Churn(Flow):
    """Connections that come, say something and go."""

    def traffic(self):
        with self.open_echo() as s:
            self.exchange(s, self.rng.randbytes(self.rng.randrange(1, 3000)))
            s.shutdown(socket.SHUT_WR)
            self.end_of_stream(s)
        self.stopping.wait(0.005)


class HalfClosed(Flow):
    """Our side says all that it has at once; the answer comes in parts, every 50 ms."""

    def traffic(self):
        with self.open_echo(b"h") as s:
            s.sendall(self.rng.randbytes(5000))
            s.shutdown(socket.SHUT_WR)
            for part in range(HALF_CLOSED_PARTS):
                if self.receive(s, 1000) != bytes([part]) * 1000:
                    raise Corrupt(f"part {part}")
                self.beat()
            self.end_of_stream(s)


class Idle(Flow):
    """A connection that says something when `check` is called, and else nothing."""

    steady = False

    def __init__(self, *args):
        super().__init__(*args)
        self.due, self.done = threading.Event(), threading.Event()

    def check(self):
        """Whether the connection of before is alive; within PATIENCE."""
        before = len(self.events)
        self.done.clear()
        self.due.set()
        if not self.done.wait(PATIENCE + 5):
            self.event("lost", "no answer")
        return len(self.events) == before

    def traffic(self):
        try:
            with self.open_echo() as s:
                self.exchange(s, b"before")
                while not self.stopping.is_set():
                    if self.due.wait(0.1):
                        self.due.clear()
                        self.exchange(s, self.rng.randbytes(50))
                        self.done.set()
        except (OSError, Corrupt):
            self.due.clear()
            raise
        finally:
            self.done.set()


class Ticks(Flow):
    """Counters that the stack's side sends every 200 µs, whatever else happens: see ticker.c."""

    def traffic(self):
        expected = 0
        with self.connect("tick") as s:
            while not self.stopping.wait(0.005):
                data = s.recv(1 << 16)
                if not data:
                    raise OSError(f"end of stream after {expected} ticks")
                data += self.receive(s, -len(data) % 8)
                got = struct.unpack(f"!{len(data) // 8}Q", data)
                if got != tuple(range(expected, expected + len(got))):
                    raise Corrupt(f"tick {expected}")
                expected += len(got)
                self.beat()


class Datagrams(Flow):
    def traffic(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((self.address, PORTS["echo"]))
            number = 0
            while not self.stopping.wait(0.002):
                number += 1
                data = number.to_bytes(4, "big") + self.rng.randbytes(self.rng.randrange(1400))
                self.ask(s, data, lambda answer, d=data: answer == d, lambda a, n=number: a[:4] < n.to_bytes(4, "big"))

    def ask(self, s, question, right, old):
        """Sends until the right answer comes. A datagram may have been lost, or the service be away."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not self.stopping.is_set():
            try:
                s.send(question)
                s.settimeout(0.25)
                while True:
                    answer = s.recv(4096)
                    if right(answer):
                        self.beat()
                        return
                    if not old(answer):
                        raise Corrupt(f"datagram {self.steps}")
            except TimeoutError:
                self.repeated += 1
            except ConnectionRefusedError:  # ICMP: nobody listens
                self.event("refused", "port unreachable")
                time.sleep(0.05)
        if not self.stopping.is_set():
            raise OSError("no answer")


class Dns(Datagrams):
    """Questions for host1 … host20.example.test, as tests/tools/stack.sh has them."""

    def traffic(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((self.address, PORTS["dns"]))
            number = 0
            while not self.stopping.wait(0.002):
                number = (number + 1) & 0xFFFF
                host = self.rng.randrange(1, 21)
                ident = struct.pack("!H", number)
                names = b"".join(bytes([len(p)]) + p for p in (b"host%d" % host, b"example", b"test"))
                question = ident + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + names + b"\x00\x00\x01\x00\x01"
                right = bytes((192, 0, 2, host))
                self.ask(s, question, lambda a, i=ident, r=right: a[:2] == i and a[-4:] == r, lambda a, i=ident: a[:2] != i)


class Http(Flow):
    """Keep-alive requests, each for a part of one file whose bytes we know."""

    SIZE = 1 << 20  # as session.sh makes it

    def __init__(self, address, seed, content):
        super().__init__(address, seed)
        self.content = content

    def traffic(self):
        with self.connect("http") as s:
            while not self.stopping.wait(0.001):
                size = self.rng.choice((20, 1000, 20000))
                start = self.rng.randrange(len(self.content) - size)
                s.sendall(
                    b"GET /data HTTP/1.1\r\nHost: eft\r\nRange: bytes=%d-%d\r\n\r\n" % (start, start + size - 1)
                )
                head = b""
                while b"\r\n\r\n" not in head:
                    part = s.recv(4096)
                    if not part:
                        raise OSError("end of stream in front of an answer")
                    head += part
                head, _, body = head.partition(b"\r\n\r\n")
                if b" 206 " not in head.split(b"\r\n")[0]:
                    raise Corrupt(f"answer {head[:40]!r}")
                if body + self.receive(s, size - len(body)) != self.content[start : start + size]:
                    raise Corrupt(f"bytes {start}-{start + size - 1}")
                self.beat()


class Child(Flow):
    """Traffic of a process, which must be in the same network namespace as we."""

    process = None

    def start_process(self, command, **kwargs):
        self.opened += 1
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, **kwargs)

    def end_process(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()


class Ssh(Child):
    """A shell session with echo. `command` logs in and runs a program that sends back what it gets."""

    def __init__(self, address, seed, command):
        super().__init__(address, seed)
        self.command = command

    def traffic(self):
        self.start_process(self.command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            if self.line() != b"ready":
                raise Refused("no session")
            while not self.stopping.wait(0.005):
                text = self.rng.randbytes(self.rng.randrange(1, 60)).hex().encode()
                self.process.stdin.write(text + b"\n")
                self.process.stdin.flush()
                got = self.line()
                if got != text:
                    raise OSError("end of the session") if got is None else Corrupt(f"line {self.steps}: {got[:60]!r}")
                self.beat()
        finally:
            try:
                self.process.communicate(timeout=2)  # closes its input: the session ends in good order
            except (subprocess.TimeoutExpired, OSError):
                self.process.kill()
                self.process.wait()

    def line(self):
        got = self.process.stdout.readline()
        return got.strip() if got.endswith(b"\n") else None


class Bulk(Child):
    """stream.py in one direction. When it is finished, all that was sent is counted, hashed and compared."""

    SEEDS = 1 << 32

    def __init__(self, address, seed, mode):
        super().__init__(address, seed)
        self.mode, self.blocks, self.verified = mode, 0, 0

    @property
    def kind(self):
        return self.mode

    def traffic(self):
        stream = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stream.py")
        seed = self.rng.randrange(self.SEEDS)
        self.start_process([sys.executable, stream, self.mode, self.address, str(PORTS["stream"]), str(seed)], text=True)
        end, base = None, self.blocks
        for line in self.process.stdout:
            said = json.loads(line)
            if "from" in said:
                self.stalls.append((said["from"], said["until"]))
            if "end" in said:
                end = said
            self.blocks = base + said.get("blocks", self.blocks - base)
            self.last = time.monotonic()
            self.steps += 1
        self.process.wait()
        if end is None:
            raise OSError(f"stream.py: exit status {self.process.returncode}")
        if end["end"] == "corrupt":
            raise Corrupt(end["detail"])
        if end["end"] == "lost":
            raise OSError(end["detail"])
        self.verified += self.blocks - base

    def finish(self):
        """The stream ends, and is judged as a whole."""
        self.stopping.set()
        self.end_process()


class Programs(Child):
    """Programs under the stack that come, fetch something from the peer, and go. `command` is to end with address and
    port."""

    SIZE = 100000

    def __init__(self, address, seed, command):
        super().__init__(address, seed)
        self.content = self.rng.randbytes(self.SIZE)
        self.listener = socket.create_server(("0.0.0.0", 0))
        self.target = ("10.9.0.1", self.listener.getsockname()[1])
        self.command = [*command, *map(str, self.target)]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            s, _ = self.listener.accept()
            try:
                with s:
                    s.settimeout(PATIENCE)
                    s.sendall(self.content)
                    s.shutdown(socket.SHUT_WR)
                    s.recv(1)
            except OSError:
                pass  # what came is judged by what the program prints

    def traffic(self):
        self.start_process(self.command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            got, _ = self.process.communicate(timeout=2 * PATIENCE)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.communicate()
            raise OSError("a program did not end") from error
        if self.process.returncode != 0:
            raise OSError(f"a program failed: {got[-100:]!r}")
        if got != self.content:
            whole = len(got) >= self.SIZE or not self.content.startswith(got)
            raise Corrupt("of what a program fetched") if whole else OSError(f"{len(got)} bytes of {self.SIZE}")
        self.beat()
        self.stopping.wait(0.1)


def workload(address, seed, content, ssh, program):
    """All flows of the mixed workload; not started. `content`: of the file that nginx serves. `ssh`, `program`: the commands
    of Ssh and Programs."""
    made = [Bulk(address, seed, "pull"), Bulk(address, seed + 1, "push"), Ssh(address, seed + 2, ssh)]
    made.append(Programs(address, seed + 9, program))
    made += [Http(address, seed + 3 + i, content) for i in range(2)]
    for i, kind in enumerate((Ticks, Talk, Churn, HalfClosed, Datagrams, Dns, Idle, Idle, Idle)):
        made.append(kind(address, seed + 10 + i))
    return made


def finish(flows):
    """Ends all flows, in good order; True if all ended within PATIENCE."""
    for flow in flows:
        if isinstance(flow, Bulk):
            flow.finish()
        else:
            flow.stopping.set()
    end = time.monotonic() + PATIENCE + 5
    for flow in flows:
        flow.join(max(end - time.monotonic(), 0))
        if flow.is_alive():
            flow.event("lost", "did not end")
            if isinstance(flow, Child):
                flow.process.kill()
    return not any(flow.is_alive() for flow in flows)
