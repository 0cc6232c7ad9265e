# SPDX-License-Identifier: BSD-2-Clause
"""A server that forks and whose parent is killed before the child has touched a socket.

heirs.py listener|connection PORT FIFO: when FIFO can be read, the child goes on with the parent's listener,
or with a connection that the parent had accepted, and echoes one connection.
"""
import os
import signal
import socket
import sys


def echo(connection):
    while True:
        data = connection.recv(65536)
        if not data:
            break
        connection.sendall(data)
    connection.close()


def main():
    what, port, go = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    listener.listen()
    print("listens", flush=True)
    connection = None
    if what == "connection":
        connection, _ = listener.accept()
        # Some of it is read by the parent, some is left to the child.
        connection.sendall(connection.recv(1000))
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    with open(go) as fifo:  # the parent is dead, and everybody knows it
        fifo.read()
    if connection is None:
        connection, _ = listener.accept()
    echo(connection)
    listener.close()


main()
