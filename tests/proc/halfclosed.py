# SPDX-License-Identifier: BSD-2-Clause
"""halfclosed.py serve PORT: accepts connections and closes each at once.
halfclosed.py keep IP PORT COUNT: makes COUNT connections, waits for the end of each, closes none. Prints
how many ended by FIN and how many by RST, and keeps the former until it is killed.
"""

import resource
import signal
import socket
import sys


def serve(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(1024)
    while True:
        listener.accept()[0].close()


def ended_by_fin(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return False


def keep(ip, port, count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    halves = []
    resets = 0
    for _ in range(count):
        try:
            connection = socket.create_connection((ip, port), timeout=30)
            if ended_by_fin(connection):
                halves.append(connection)
                continue
        except ConnectionResetError:
            pass
        resets += 1
    print(len(halves), resets, flush=True)
    signal.pause()


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    keep(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
