# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmarks of this folder share."""

import os
import platform
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def machine(program):
    """What a figure is worth nothing without."""

    def output(*command):
        if shutil.which(command[0]) is None:
            return "?"
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE).stdout.strip()

    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "?")
    return {
        "commit": output("git", "describe", "--always", "--dirty"),
        "kernel": platform.release(),
        "processor": model,
        "processors": os.cpu_count(),
        "command": " ".join([f"tests/bench/{program}", *sys.argv[1:]]),
    }


def ahead():
    """Puts this process, and all that it starts, before what else the machine does. The kernel's TCP
    works in interrupts and has that for nothing; our stack is processes that others delay."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        print("note: no real-time priority here; other load counts against our stack")


def ready():
    """Builds what is not built, unless EFT_BUILD says where it lies (tests/tools/ready.sh)."""
    done = subprocess.run(
        ["bash", "-c", 'set -eu; . ../tools/ready.sh; echo "$EFT_BUILD"'],
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(1)
    os.environ["EFT_BUILD"] = done.stdout.splitlines()[-1]
