# SPDX-License-Identifier: BSD-2-Clause
"""control.py PATH SEED: everything that the protocol of libchan/edge/control.h does not allow."""

import array
import os
import random
import socket
import struct
import sys


def request(version=1, op=1, number=1, arg=0):
    return struct.pack("<IIQII", version, op, number, arg, 0)


def open_socket(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(10)
    s.connect(path)
    return s


def attempt(call):
    """The server may hang up on a caller of this kind at any time."""
    try:
        call()
    except OSError:
        pass


def main():
    path, rng = sys.argv[1], random.Random(int(sys.argv[2]))
    for _ in range(100):
        with open_socket(path) as s:
            for _ in range(rng.randrange(4)):
                attempt(lambda: s.send(rng.randbytes(rng.choice((1, 23, 24, 25, 200, 60000)))))
    for bad in (
        request(version=0),
        request(version=2**32 - 1),
        request(op=0),
        request(op=2**31),
        request(op=2, arg=64),
        request(op=2, arg=2**32 - 1),
        request(op=3, arg=2**32 - 1),
    ):
        with open_socket(path) as s:
            attempt(lambda: s.send(bad))
            attempt(lambda: s.recv(4096))
    # Descriptors that nobody asked for: they must be closed, not kept.
    end, other = os.pipe()
    with open_socket(path) as s:
        for i in range(100):
            fds = array.array("i", [end, other] * 8)
            attempt(lambda: s.sendmsg([request(op=9, number=i)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]))
    # Many that attach and leave at once, and some that stay silent.
    silent = []
    for i in range(64):
        s = open_socket(path)
        attempt(lambda: s.send(request(number=i)))
        if i % 2:
            s.close()
        else:
            silent.append(s)
    for s in silent:
        s.close()


main()
