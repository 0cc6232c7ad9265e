# SPDX-License-Identifier: BSD-2-Clause
"""badapp.py MODE SEED ADDRESS PORT: an application that breaks the rules of libchan/edge/app.h.

It opens connections through libsock like anybody else, then writes into the region that it may
write (up), behind libsock's back, and kills itself. Offsets are those of struct up_region.
"""

import ctypes
import os
import random
import signal
import socket
import struct
import sys

UP, DOWN_CTL = 0, 3  # enum app_region
REGION_APP_FIRST = 1024
WORK_TCP = 128 + 64 * 64  # header, version and pid, waiters
SLOT = 192
LIBC = ctypes.CDLL(None, use_errno=True)
SYS_SENDTO = 44


def mapped_regions():
    """enum app_region -> address, for the regions of this application."""
    found = {}
    with open("/proc/self/maps", encoding="ascii", errors="replace") as f:
        for line in f:
            field = line.split(None, 5)
            if len(field) < 6 or not field[5].startswith("/memfd:") or field[1][3] != "s":
                continue
            address = int(field[0].split("-")[0], 16)
            if int(field[2], 16) != 0:
                continue
            magic, _, number = struct.unpack("<QIH", ctypes.string_at(address, 14))
            if magic == 0x3130544645 and number >= REGION_APP_FIRST:
                found[(number - REGION_APP_FIRST) % 4] = address
    return found


def store(address, value):
    ctypes.c_uint64.from_address(address).value = value & (1 << 64) - 1


def fill_bells():
    filled = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            s = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if s.family == socket.AF_UNIX and s.type == socket.SOCK_DGRAM:
            # Whoever is awake empties it all the time: then it is a flood, and has an end.
            while filled < 100000 and LIBC.syscall(SYS_SENDTO, s.fileno(), b"x", 1, 0x4040, None, 0) == 1:
                filled += 1
        s.close()
    if filled == 0:
        sys.exit("found no bell to fill")


def main():
    mode, seed, address, port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    rng = random.Random(seed)
    sockets = [socket.create_connection((address, port), timeout=10) for _ in range(4)]
    for s in sockets:
        s.sendall(b"GET /data HTTP/1.0\r\n\r\n")
    regions = mapped_regions()
    if UP not in regions or DOWN_CTL not in regions:
        sys.exit(f"regions not found: {regions}")
    up = regions[UP]
    slots = up + struct.unpack("<Q", ctypes.string_at(regions[DOWN_CTL] + 112, 8))[0]
    edge = (0, 1, 1 << 31, 1 << 32, (1 << 62) - 1, 1 << 63, (1 << 64) - 1)
    if mode == "counters":  # tx_end and rx_read run away, backwards, to the edges
        for i in range(20000):
            store(slots + SLOT * rng.randrange(4) + 8 * rng.randrange(2), rng.choice(edge) + rng.getrandbits(16))
    elif mode == "slots":  # generations, requests, arguments, names
        for i in range(20000):
            store(slots + SLOT * rng.randrange(64) + 8 * rng.randrange(24), rng.getrandbits(64))
    elif mode == "queue":  # the work queue: tail, scan, slot numbers
        for i in range(20000):
            store(up + WORK_TCP + 8 * rng.choice((0, 1, 8 + rng.randrange(2048))), rng.choice(edge) + i)
    elif mode == "page":  # everything from the waiters on
        for i in range(20000):
            store(up + 128 + 8 * rng.randrange(8192), rng.getrandbits(64))
    elif mode == "bell":
        fill_bells()
    elif mode == "close":  # leaves in the middle of many connects
        for i in range(200):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((address, port))
            s.close()
        os._exit(0)
    elif mode != "die":
        sys.exit(f"unknown mode {mode}")
    # What was written is noticed only if the servers are told to look.
    for s in sockets:
        try:
            s.setblocking(False)
            s.send(b"x")
        except OSError:
            pass
    os.kill(os.getpid(), signal.SIGKILL)


main()
