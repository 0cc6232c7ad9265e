# SPDX-License-Identifier: BSD-2-Clause
"""Processes that attach, one after the other and several at once, until FILE exists.

attach.py ADDRESS FILE: each child makes a TCP and a UDP socket and binds them; what fails is
printed. The status says whether all succeeded.
"""
import os
import socket
import sys
import traceback

AT_ONCE = 6


def child(address):
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((address, 0))
        udp.bind((address, 0))
        assert tcp.getsockname()[1] and udp.getsockname()[1]


def start(address):
    pid = os.fork()
    if pid:
        return
    status = 1
    try:
        child(address)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main():
    address, stop = sys.argv[1:]
    good = bad = running = 0
    while running or not os.path.exists(stop):
        while running < AT_ONCE and not os.path.exists(stop):
            start(address)
            running += 1
        _, status = os.wait()
        running -= 1
        if status:
            bad += 1
        else:
            good += 1
    print(f"{good} attached, {bad} failed", flush=True)
    return 1 if bad or not good else 0


sys.exit(main())
