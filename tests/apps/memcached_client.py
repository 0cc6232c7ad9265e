# SPDX-License-Identifier: BSD-2-Clause
"""memcached_client.py ADDRESS PORT THREADS ROUNDS: sets values, gets them back, compares them.

Each thread has a connection and keys of its own; sizes are from a seeded generator.
"""

import random
import socket
import sys
import threading


def client(address, port, number, rounds, errors):
    rng = random.Random(number)
    try:
        with socket.create_connection((address, port), timeout=30) as s:
            stream = s.makefile("rwb")
            for i in range(rounds):
                key = b"k%d-%d" % (number, i % 20)
                value = rng.randbytes(rng.choice((1, 100, 1448, 4000, 60000)) if i % 10 == 0 else 1000)
                stream.write(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
                stream.flush()
                if stream.readline() != b"STORED\r\n":
                    raise ValueError("set was not answered by STORED")
                stream.write(b"get %s\r\n" % key)
                stream.flush()
                if stream.readline() != b"VALUE %s 0 %d\r\n" % (key, len(value)):
                    raise ValueError("get was answered by another header")
                if stream.read(len(value)) != value or stream.readline() != b"\r\n":
                    raise ValueError("get brought other bytes")
                if stream.readline() != b"END\r\n":
                    raise ValueError("get did not end")
    except (OSError, ValueError) as error:
        errors.append(f"thread {number}: {error}")


def main():
    address, port, threads, rounds = sys.argv[1], *map(int, sys.argv[2:5])
    errors = []
    workers = [
        threading.Thread(target=client, args=(address, port, n, rounds, errors)) for n in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        sys.exit("\n".join(errors))


main()
