# SPDX-License-Identifier: BSD-2-Clause
"""spares.py PID REGION [VALUE]: the lock word of the server whose region REGION (as "eft:NAME:tcp0") process
PID has mapped; with VALUE, stores that as a wild store would, through /proc/PID/mem."""

import struct
import sys


def address(pid, region):
    with open(f"/proc/{pid}/maps", encoding="ascii") as f:
        for line in f:
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[5].startswith(f"/memfd:{region} ") and "w" in fields[1]:
                return int(fields[0].split("-")[0], 16)
    raise SystemExit(f"process {pid} has no region {region} mapped for writing")


def main():
    pid, region = sys.argv[1:3]
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as mem:
        base = address(pid, region)
        mem.seek(base)
        (entries,) = struct.unpack_from("<I", mem.read(64), 28)  # region_header.dir_count
        block = base + (64 + 32 * entries + 63) // 64 * 64
        lock = block + 4 * 64  # server_block.lock
        mem.seek(lock)
        if len(sys.argv) > 3:
            mem.write(struct.pack("<I", int(sys.argv[3], 0)))
        else:
            print(struct.unpack("<I", mem.read(4))[0])


main()
