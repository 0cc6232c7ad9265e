# SPDX-License-Identifier: BSD-2-Clause
"""Both ends of what goes on while rs dies.

    rsdies.py serve PORT              echoes, on the peer
    rsdies.py talk HOST PORT          one connection: echo after echo until SIGTERM; prints how many, and
                                      the longest one in ms
    rsdies.py come HOST PORT COUNT    a program that attaches, COUNT times in a row (it is started anew by
                                      itself), each with some echoes; prints how many came, and the
                                      longest in ms"""

import signal
import socket
import subprocess
import sys
import threading
import time


def echo(conn):
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)


def serve(port):
    with socket.create_server(("", port), backlog=512) as listener:
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


def round_trip(s, number):
    data = number.to_bytes(8, "big") * 100
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        part = s.recv(65536)
        assert part, "the connection ended"
        got += part
    assert got == data, "other bytes came back"


def talk(host, port):
    end = []
    signal.signal(signal.SIGTERM, lambda *_: end.append(1))
    longest = number = 0
    with socket.create_connection((host, port), timeout=20) as s:
        while not end:
            began = time.monotonic()
            round_trip(s, number)
            number += 1
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.001)
    print(number, round(longest * 1000))


def once(host, port):
    with socket.create_connection((host, port), timeout=20) as s:
        for number in range(5):
            round_trip(s, number)


def come(host, port, count):
    longest = 0.0
    for _ in range(count):
        began = time.monotonic()
        subprocess.run([sys.executable, __file__, "once", host, str(port)], check=True, timeout=30)
        longest = max(longest, time.monotonic() - began)
    print(count, round(longest * 1000))


what, args = sys.argv[1], sys.argv[2:]
if what == "serve":
    serve(int(args[0]))
elif what == "talk":
    talk(args[0], int(args[1]))
elif what == "once":
    once(args[0], int(args[1]))
else:
    come(args[0], int(args[1]), int(args[2]))
