# SPDX-License-Identifier: BSD-2-Clause
"""Bulk transfers whose every byte depends on its position, with a SHA-256 over all of it.

  stream.py serve PORT                       an application under the stack: source and sink
  stream.py pull|push ADDRESS PORT SEED      the peer's end; ends well on SIGTERM

A connection begins with "d" or "u" and a seed of 8 bytes. "d": the server sends until the client shuts down
its side, then a trailer (what a block can never begin with, number of blocks, SHA-256 of them). "u": the
client sends until it has enough and shuts down; the server answers with a trailer about what it got, after
it has compared each byte. So the verdict on either direction is the client's, which nobody kills.

The client prints a JSON object a line: {"from": …, "until": …} for a stretch without progress longer than
STALL (seconds of CLOCK_MONOTONIC), {"blocks": n} now and then, and at the end {"end": "transparent" |
"lost" | "corrupt", "detail": …}. In processes of their own, because both ends want a whole processor.
"""

import hashlib
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time

BLOCK = 1 << 16
TABLE = 1 << 20
TRAILER = 0xFFFFFFFFFFFFFFFF
STALL = 0.02
HEADER = struct.Struct("!QQ")


class Corrupt(Exception):
    """Other bytes than the ones that must be there."""


class Blocks:
    """Block n of a seed: n, the seed, and a part of a random table that lies elsewhere for each n."""

    def __init__(self, seed):
        self.seed = seed
        self.table = memoryview(random.Random(seed).randbytes(TABLE + BLOCK))

    def parts(self, n):
        start = n * 40503 % TABLE
        return HEADER.pack(n, self.seed), self.table[start : start + BLOCK - HEADER.size]


def send_all(s, parts):
    left = [memoryview(p) for p in parts]
    while left:
        sent = s.sendmsg(left)
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if left:
            left[0] = left[0][sent:]


def send_blocks(s, blocks, enough):
    """Sends until enough() says so; number and SHA-256 of the blocks."""
    digest, n = hashlib.sha256(), 0
    while not enough(n):
        parts = blocks.parts(n)
        for part in parts:
            digest.update(part)
        send_all(s, parts)
        n += 1
    return n, digest.digest()


def receive_blocks(s, blocks, progress):
    """Compares what comes with what must; number and SHA-256 of the blocks, and what came instead of a
    further one: b"" or the trailer. Raises Corrupt at the first byte that is another one."""
    digest, n, buffer = hashlib.sha256(), 0, bytearray(BLOCK)
    view = memoryview(buffer)
    while True:
        have = 0
        while have < BLOCK:
            got = s.recv_into(view[have:])
            if got == 0:
                break
            have += got
            progress(n)
        if have < BLOCK:
            return n, digest.digest(), bytes(view[:have])
        header, body = blocks.parts(n)
        if view[: HEADER.size] != header or view[HEADER.size :] != body:
            at = next(i for i, (a, b) in enumerate(zip(buffer, header + bytes(body))) if a != b)
            raise Corrupt(f"byte {at} of block {n}")
        digest.update(buffer)
        n += 1


def trailer(n, digest):
    return HEADER.pack(TRAILER, n) + digest


# --- the application ---


def take(s, size):
    data = b""
    while len(data) < size:
        part = s.recv(size - len(data))
        if not part:
            return data
        data += part
    return data


def serve_one(s):
    with s:
        try:
            hello = take(s, 9)
            if len(hello) < 9:
                return  # somebody looked whether we listen
            blocks = Blocks(int.from_bytes(hello[1:], "big"))
            if hello[:1] == b"d":
                s.sendall(trailer(*send_blocks(s, blocks, lambda n: select.select([s], [], [], 0)[0])))
            else:
                n, digest, rest = receive_blocks(s, blocks, lambda n: None)
                if rest:
                    raise Corrupt(f"{len(rest)} bytes after block {n}")
                s.sendall(trailer(n, digest))
            s.shutdown(socket.SHUT_WR)
            s.recv(1)
        except Corrupt as error:
            print(f"corrupt: {error}", flush=True)
        except OSError as error:
            print(f"connection: {error}", flush=True)


def serve(port):
    with socket.create_server(("0.0.0.0", port)) as listener:
        while True:
            s, _ = listener.accept()
            threading.Thread(target=serve_one, args=(s,), daemon=True).start()


# --- the peer ---


class Client:
    def __init__(self, seed):
        self.seed, self.stop, self.last, self.said = seed, False, time.monotonic(), 0.0

    def progress(self, n):
        now = time.monotonic()
        if now - self.last > STALL:
            print(json.dumps({"from": self.last, "until": now}), flush=True)
        if now - self.said > 0.05:
            print(json.dumps({"blocks": n}), flush=True)
            self.said = now
        self.last = now

    def enough(self, n):
        self.progress(n)
        return self.stop

    def pull(self, s):
        """Until the trailer; the stop is told to the source by a thread, while this one reads on."""

        def wait_for_stop():
            while not self.stop:
                time.sleep(0.05)
            s.shutdown(socket.SHUT_WR)

        threading.Thread(target=wait_for_stop, daemon=True).start()
        n, digest, rest = receive_blocks(s, Blocks(self.seed), self.progress)
        self.judge(n, digest, rest)

    def push(self, s):
        n, digest = send_blocks(s, Blocks(self.seed), self.enough)
        s.shutdown(socket.SHUT_WR)
        self.judge(n, digest, take(s, len(trailer(n, digest))))

    @staticmethod
    def judge(n, digest, rest):
        right = trailer(n, digest)
        if len(rest) != len(right) or not rest.startswith(right[:8]):
            raise OSError(f"end of stream after block {n} and {len(rest)} bytes")
        if rest != right:
            raise Corrupt("the trailer says something else")

    def run(self, mode, address, port):
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        end = {"end": "transparent"}
        try:
            with socket.create_connection((address, port), timeout=30) as s:
                s.sendall((b"d" if mode == "pull" else b"u") + self.seed.to_bytes(8, "big"))
                (self.pull if mode == "pull" else self.push)(s)
        except Corrupt as error:
            end = {"end": "corrupt", "detail": str(error)}
        except OSError as error:
            end = {"end": "lost", "detail": f"{type(error).__name__}: {error}"}
        print(json.dumps(end), flush=True)


def main():
    os.nice(5)  # bulk takes what the others leave
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        Client(int(sys.argv[4])).run(sys.argv[1], sys.argv[2], int(sys.argv[3]))


if __name__ == "__main__":
    main()
