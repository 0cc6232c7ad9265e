# SPDX-License-Identifier: BSD-2-Clause
"""hammer.py ADDRESS PORT: asks all the time for what the packet filter closes, a thousand times a second each.

Connections that nobody answers, and datagrams. Any answer is one too many: a SYN-ACK, an RST, an ICMP message, a
datagram. Until SIGTERM; then prints {"attempts": n, "answered": n}.
"""

import collections
import json
import select
import signal
import socket
import sys
import time


def main():
    target = (sys.argv[1], int(sys.argv[2]))
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    attempts = answered = 0
    waiting = collections.deque()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        u.setblocking(False)
        u.connect(target)
        while not stop:
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(target)
            waiting.append(s)
            attempts += 2
            try:
                u.send(b"let me in")
                u.recv(100)
                answered += 1
            except BlockingIOError:
                pass
            except OSError:
                answered += 1
            if len(waiting) > 100:
                old = waiting.popleft()
                answered += bool(select.select([], [old], [], 0)[1])
                old.close()
            time.sleep(0.001)
    print(json.dumps({"attempts": attempts, "answered": answered}), flush=True)


main()
