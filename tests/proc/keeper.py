# SPDX-License-Identifier: BSD-2-Clause
"""A program that lives several lives under eft-keeper, and says in LOG what it finds in each.

The kept descriptor "count" counts the lives. What each does is at the end of this file."""

import array
import os
import signal
import socket
import struct
import sys
import time

LOG = sys.argv[1]
READY_FD = int(sys.argv[3]) if sys.argv[2:3] == ["--ready-fd"] else -1


def log(text):
    with open(LOG, "a", encoding="ascii") as f:
        f.write(text + "\n")


def notify(text, *fds):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        s.sendmsg([text.encode()], rights)


def barrier():
    r, w = os.pipe()
    notify("BARRIER=1", w)
    os.close(w)
    assert os.read(r, 1) == b""  # it was closed at the other end, too
    os.close(r)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def inherited():
    """Descriptors by name."""
    n = int(os.environ.get("LISTEN_FDS", "0"))
    assert n == 0 or int(os.environ["LISTEN_PID"]) == os.getpid()
    names = os.environ["LISTEN_FDNAMES"].split(":") if n else []
    assert len(names) == n
    return {name: 3 + i for i, name in enumerate(names)}


def orphan():
    """A child that outlives us, and tries to speak for us when its parent has changed."""
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.001)
        log(f"orphan of {os.getppid()}")
        notify("FDSTOREREMOVE=1\nFDNAME=count")
        notify("FDSTORE=1\nFDNAME=forged", 0)
        os._exit(0)


kept = inherited()
fd = kept.get("count")
life = 1
if fd is not None:
    life = struct.unpack("I", os.pread(fd, 4, 0))[0] + 1
    os.pwrite(fd, struct.pack("I", life), 0)
log(f"life {life}: {' '.join(sorted(kept))}; ready-fd {'yes' if READY_FD >= 0 else 'no'}")

if life == 1:
    memory = os.memfd_create("count")
    os.pwrite(memory, struct.pack("I", 1), 0)
    notify("FDSTORE=1\nFDNAME=count\nFDPOLL=0", memory)
    for _ in range(30):
        notify("FDSTORE=1\nFDNAME=more", os.open("/dev/null", os.O_RDONLY))
    die()  # what was said before death counts
elif life == 2:
    names = os.environ["LISTEN_FDNAMES"].split(":")
    assert names.count("more") == 30, names
    notify("FDSTOREREMOVE=1\nFDNAME=more")
    barrier()
    os.write(READY_FD, b"READY\n")
    notify("READY=1")
    os.kill(os.getpid(), signal.SIGSTOP)  # found by the watchdog
elif life == 3:
    orphan()
    os._exit(5)
elif life == 4:
    while "orphan" not in open(LOG, encoding="ascii").read():
        notify("WATCHDOG=1")
        time.sleep(0.01)
    barrier()
    die()
else:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    while True:
        if signal.sigtimedwait([signal.SIGTERM], 0.1):
            log("SIGTERM")
            if life == 6:
                sys.exit(0)
            die()  # in the middle of ending: the next one is told as well
        notify("WATCHDOG=1")
