# SPDX-License-Identifier: BSD-2-Clause
"""privilege.py NAME:PID…: what each process of the stack is allowed to do.

For every memory region that a process maps it opens the region as root (read-only), becomes the
user of that process in a child, and tries to reopen the descriptor for writing. Names other than
"app" are servers: they must also have no capability, a seccomp filter, and a user of their own.
"""

import errno
import os
import sys


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def regions(pid):
    """(address range, name, writable) of each shared memfd mapping."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as f:
        for line in f:
            field = line.split(None, 5)
            if len(field) == 6 and field[5].startswith("/memfd:") and field[1][3] == "s":
                yield field[0], field[5].split()[0], field[1][1] == "w"


def reopen_as(uid, gid, fd):
    """errno with which `uid` fails to reopen fd for writing; 0 when it succeeds."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(name, pid, users):
    wrong = []
    status = status_of(pid)
    uid, gid = int(status["Uid"].split()[1]), int(status["Gid"].split()[1])
    if name != "app":
        if uid == 0:
            wrong.append("runs as root")
        if uid in users:
            wrong.append(f"shares user {uid} with {users[uid]}")
        users[uid] = name
        if int(status["CapEff"], 16) or int(status["CapPrm"], 16):
            wrong.append(f"has capabilities {status['CapPrm']}")
        if status["Seccomp"] != "2":
            wrong.append("has no seccomp filter")
        if status["NoNewPrivs"] != "1":
            wrong.append("may gain privileges")
    count = 0
    for area, region, writable in regions(pid):
        # An application's own region of sends is its own: it may do with it as it likes.
        if name == "app" and writable:
            continue
        fd = os.open(f"/proc/{pid}/map_files/{area}", os.O_RDONLY)
        result = reopen_as(uid, gid, fd)
        if result != errno.EACCES:
            wrong.append(f"reopens {region} for writing ({os.strerror(result) if result else 'success'})")
        if (result := reopen_as(65534, 65534, fd)) != errno.EACCES:
            wrong.append(f"nobody reopens {region} for writing")
        os.close(fd)
        count += 1
    if count == 0:
        wrong.append("maps no region: nothing was tested")
    print(f"{name}: user {uid}, {count} regions, {'; '.join(wrong) or 'good'}")
    return not wrong


def main():
    users = {}
    results = [check(name, int(pid), users) for name, pid in (arg.split(":") for arg in sys.argv[1:])]
    sys.exit(0 if results and all(results) else 1)


main()
