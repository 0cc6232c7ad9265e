# SPDX-License-Identifier: BSD-2-Clause
"""campaign.py OPTIONS: kills servers in a seeded order while every kind of traffic runs, all at once.

Runs at the peer. Traffic: bulk both ways with a stream that depends on its position, a conversation of
small messages, an idle connection, a half-closed one, connections that come and go, datagrams. Outcome
per flow: transparent (no error, all bytes right), lost (an error), or CORRUPT (other bytes). Datagrams
may be lost, not changed. Prints the longest pause of the conversation around the kills.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

SERVERS = ("driver", "ip", "tcp", "udp", "pf", "syscall")
HALF_CLOSED_PARTS = 100  # as in server.py


class Corrupt(Exception):
    """Other bytes came back than the ones that must."""


class Flow(threading.Thread):
    """A kind of traffic; run() ends when `stop` is set and all is finished, or raises."""

    def __init__(self, args, seed, stop):
        super().__init__(daemon=True)
        self.args, self.rng, self.stop = args, random.Random(seed), stop
        self.outcome, self.count, self.detail = "unfinished", 0, ""

    def run(self):
        try:
            self.traffic()
            self.outcome = "transparent"
        except Corrupt as error:
            self.outcome, self.detail = "CORRUPT", str(error)
        except OSError as error:
            self.outcome, self.detail = "lost", f"{type(error).__name__}: {error}"

    def connect(self, kind):
        s = socket.create_connection((self.args.address, self.args.port), timeout=self.args.stall)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
            raise Corrupt(f"message {self.count}")
        self.count += 1


class Bulk(Flow):
    BLOCK = 1 << 16

    def block(self, number):
        return random.Random(number).randbytes(64) * (self.BLOCK // 64)

    def sender(self, s):
        self.sent = 0
        try:
            while not self.stop.is_set():
                s.sendall(self.block(self.sent))
                self.sent += 1
            s.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.detail = f"sender: {error}"

    def traffic(self):
        with self.connect(b"e") as s:
            sender = threading.Thread(target=self.sender, args=(s,), daemon=True)
            sender.start()
            rest = b""
            while data := s.recv(1 << 20):
                rest += data
                while len(rest) >= self.BLOCK:
                    if rest[: self.BLOCK] != self.block(self.count):
                        raise Corrupt(f"block {self.count}")
                    rest = rest[self.BLOCK :]
                    self.count += 1
            sender.join(self.args.stall)
            if self.detail or rest or self.count != self.sent:
                raise OSError(self.detail or f"{self.count} blocks and {len(rest)} bytes of {self.sent} blocks")


class Talk(Flow):
    longest = 0.0

    def traffic(self):
        with self.connect(b"e") as s:
            while not self.stop.is_set():
                start = time.monotonic()
                self.exchange(s, self.rng.randbytes(self.rng.randrange(1, 200)))
                self.longest = max(self.longest, time.monotonic() - start)
                time.sleep(0.001)


class Idle(Flow):
    def traffic(self):
        with self.connect(b"e") as s:
            self.exchange(s, b"before")
            self.stop.wait()
            self.exchange(s, b"after")


class HalfClosed(Flow):
    def traffic(self):
        while not self.stop.is_set():
            with self.connect(b"h") as s:
                s.sendall(self.rng.randbytes(5000))
                s.shutdown(socket.SHUT_WR)
                for part in range(HALF_CLOSED_PARTS):
                    if self.receive(s, 1000) != bytes([part]) * 1000:
                        raise Corrupt(f"part {part}")
                if s.recv(1):
                    raise Corrupt("bytes after the end")
                self.count += 1


class Churn(Flow):
    def traffic(self):
        while not self.stop.is_set():
            with self.connect(b"e") as s:
                self.exchange(s, self.rng.randbytes(self.rng.randrange(1, 3000)))
                s.shutdown(socket.SHUT_WR)
                if s.recv(1):
                    raise Corrupt("bytes after the end")


class Datagrams(Flow):
    def traffic(self):
        lost = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((self.args.address, self.args.port))
            while not self.stop.is_set():
                self.count += 1
                data = self.count.to_bytes(4, "big") + self.rng.randbytes(self.rng.randrange(1400))
                s.send(data)
                end = time.monotonic() + 1
                while True:  # answers to datagrams that were given up may still come
                    s.settimeout(max(end - time.monotonic(), 0.001))
                    try:
                        answer = s.recv(2000)
                    except TimeoutError:
                        lost += 1
                        break
                    if answer == data:
                        break
                    if int.from_bytes(answer[:4], "big") >= self.count:
                        raise Corrupt(f"datagram {self.count}")
                time.sleep(0.002)
        self.detail = f"{lost} of {self.count} unanswered"


def kill(args, server):
    done = subprocess.run(
        [args.eft, "crash", "kill", server, "--name", args.stack],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def kill_all(args, flows):
    """The kills: one server, or two at once in one case of ten. Ends early when a flow has broken."""
    rng, done = random.Random(args.seed), dict.fromkeys(SERVERS, 0)
    deadline = time.monotonic() + args.kills * args.spacing * 4 + 30
    while sum(done.values()) < args.kills and time.monotonic() < deadline:
        step = rng.sample(SERVERS, 2 if rng.random() < 0.1 else 1)
        threads = [threading.Thread(target=lambda s=s: done.update({s: done[s] + kill(args, s)})) for s in step]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        time.sleep(args.spacing * rng.uniform(0.5, 1.5))
        if any(f.outcome in ("lost", "CORRUPT") for f in flows):
            break
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eft", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--spacing", type=float, default=0.3, help="mean seconds between kills")
    parser.add_argument("--settle", type=float, default=3, help="seconds of traffic after the last kill")
    parser.add_argument("--stall", type=float, default=20, help="seconds without progress that are a loss")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)

    stop = threading.Event()
    kinds = (Bulk, Bulk, Talk, Talk, Idle, HalfClosed, Churn, Datagrams)
    flows = [kind(args, args.seed + i, stop) for i, kind in enumerate(kinds)]
    for flow in flows:
        flow.start()
    done = kill_all(args, flows)
    time.sleep(args.settle)
    stop.set()
    for flow in flows:
        flow.join(args.stall + 10)

    for flow in flows:
        print(f"{type(flow).__name__:<12}{flow.outcome:<13}{flow.count:>9}  {flow.detail}")
    pause = max(f.longest for f in flows if isinstance(f, Talk))
    outcomes = [f.outcome for f in flows]
    summary = {
        "seed": args.seed,
        "kills": done,
        "transparent": outcomes.count("transparent"),
        "lost": outcomes.count("lost") + outcomes.count("unfinished"),
        "corrupt": outcomes.count("CORRUPT"),
        "longest_pause_ms": round(pause * 1000, 1),
    }
    print(json.dumps(summary))
    if sum(done.values()) < args.kills:
        print(f"FAIL: only {sum(done.values())} of {args.kills} kills")
        return 1
    return 0 if summary["transparent"] == len(flows) else 1


sys.exit(main())
