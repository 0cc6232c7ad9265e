# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmarks of this folder share."""

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
from contextlib import contextmanager

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


@contextmanager
def idle_mode(poll):
    """While /dev/cpu_dma_latency is held open with 0 in it, processors spin instead of halting."""
    if not poll:
        yield
        return
    with open("/dev/cpu_dma_latency", "wb", buffering=0) as f:
        f.write(struct.pack("i", 0))
        yield


def places(pinned):
    """Processors of our side and of the peer, as for taskset: a half each."""
    cpus = sorted(os.sched_getaffinity(0))
    half = len(cpus) // 2
    if not pinned or half == 0:
        return {}

    def listed(some):
        return ",".join(map(str, some))

    return {"BENCH_OURS": listed(cpus[:half]), "BENCH_PEER": listed(cpus[half:])}


def measure(side, workload, driver, seconds, env, count):
    """One line of measure.sh; side is a shape, or kernel."""
    env = dict(os.environ, STACK_DRIVER=driver, STACK_LIMIT=str(60 + 10 * seconds), **env)
    env.update(STACK_SIDE="kernel") if side == "kernel" else env.update(STACK_SIDE="eft", STACK_SHAPE=side)
    if count:
        env["BENCH_COUNT"] = "yes"
    done = subprocess.run(
        [os.path.join(HERE, "measure.sh"), workload, str(seconds)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        print(done.stdout, end="")
        sys.exit(77)
    if done.returncode != 0:
        raise RuntimeError(f"{workload} over {driver if side != 'kernel' else 'veth'}, {side}, failed")
    return json.loads(done.stdout.splitlines()[-1])


def figure(value):
    return "-" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def write(path, what):
    if path:
        with open(path, "w", encoding="utf-8") as f:
            json.dump(what, f, indent=1)
