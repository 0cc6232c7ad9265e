# SPDX-License-Identifier: BSD-2-Clause
"""leaks.py EFT STACK: what a stack holds, as JSON: descriptors, mappings and private memory of each
process, and what the servers count as in use."""

import json
import os
import re
import subprocess
import sys


def main():
    eft, stack = sys.argv[1:3]
    status = json.loads(subprocess.check_output([eft, "status", "--name", stack, "--json", "--interval", "0"]))
    processes = {"rs": status["pid"]} | {s["name"]: s["pid"] for s in status["servers"]}
    held = {}
    for name, pid in processes.items():
        with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as f:
            held[f"{name} mappings"] = len(f.readlines())
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            held[f"{name} KiB"] = int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))
        held[f"{name} descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
    counters = {}
    for s in status["servers"]:
        for name, values in s["counters"].items():
            counters[name] = values
    held["applications"] = status["applications"]
    held["frames out"] = counters["driver0"]["frames_out"]
    held["frames free"] = counters["driver0"]["frames_free"]
    held["udp sockets"] = counters["udp0"]["sockets"]
    held["control clients"] = counters["syscall0"]["clients"]
    print(json.dumps(held))


main()
