# SPDX-License-Identifier: BSD-2-Clause
"""The campaigns, from a plan to a summary: sessions one after the other until every run has been done. See `run`."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

import plan
import report
import summary

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
IMPOSSIBLE = 3  # exit status of session.py, and of this


def read(file):
    """JSON lines; a last one that was not finished does not count."""
    lines = []
    if os.path.exists(file):
        with open(file, encoding="utf-8") as f:
            for line in f:
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    pass
    return lines


def revision():
    done = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


class Run:
    """One campaign in its folder: runs.jsonl grows until all is done."""

    def __init__(self, name, args):
        self.name, self.args, self.campaign = name, args, plan.CAMPAIGNS[name]
        self.runs = args.runs or self.campaign.runs
        self.folder = os.path.join(args.dir, f"{name}-{args.seed}")
        self.results = os.path.join(self.folder, "runs.jsonl")
        if args.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder, exist_ok=True)
        self.meta = {"seed": args.seed, "commit": revision(), "machine": machine(), "date": time.strftime("%Y-%m-%d")}
        self.began = time.monotonic()

    def next_steps(self):
        """Of the next session; none if there were enough."""
        records = [x for x in read(self.results) if "run" in x]
        return plan.next_steps(self.campaign, self.args.seed, records, self.runs)

    def done(self):
        return self.campaign.done([x for x in read(self.results) if "run" in x])

    def progress(self, at_first):
        done, unit = self.done(), self.campaign.unit
        seconds = (time.monotonic() - self.began) / (done - at_first) * (self.runs - done) if done > at_first else 0
        left = f", about {seconds / 60:.0f} min left" if seconds else ""
        print(f"{self.name}: {done} of {self.runs} {unit}{left}", file=sys.stderr, flush=True)

    def session(self, number, steps):
        path = self.args.path or self.campaign.path
        slow = sum(s.get("watch_ms", 0) for s in steps) / 1000
        chosen = {
            "campaign": self.name,
            "session": number,
            "seed": self.args.seed,
            "path": path,
            "spacing": self.campaign.spacing if self.args.spacing is None else self.args.spacing,
            "settle": self.args.settle,
            "warm_up": self.campaign.warm_up,
            "hammer": self.campaign.hammer,
            "fresh": self.campaign.fresh,
            "limit": round(300 + self.args.settle + slow + 15 * len(steps)),
            "steps": steps,
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as f:
            json.dump(chosen, f)
            f.flush()
            log = os.path.join(self.folder, f"session-{number}.log")
            command = ["bash", os.path.join(HERE, "session.sh"), f.name, self.results]
            with open(log, "wb") as out, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as done:
                for line in done.stdout:
                    out.write(line)
                    if self.args.verbose:
                        sys.stdout.buffer.write(line)
                        sys.stdout.flush()
        if done.returncode == 77:
            with open(log, encoding="utf-8", errors="replace") as f:
                print(f.read().strip())
        if done.returncode not in (0, 77, IMPOSSIBLE):
            began = any(x["session"] == number for x in read(self.results))
            what = {"left" if began else "problem": f"session.sh: exit status {done.returncode}, see {log}"}
            with open(self.results, "a", encoding="utf-8") as f:
                f.write(json.dumps({"session": number} | what) + "\n")
        return done.returncode

    def carry_out(self):
        """Exit status: 0, or of a session that says that the campaign is not possible here."""
        number = max((x["session"] for x in read(self.results)), default=-1) + 1
        at_first, vain = self.done(), 0
        while (steps := self.next_steps()) and vain < 3:
            self.progress(at_first)
            rc = self.session(number, steps)
            number += 1
            if rc in (77, IMPOSSIBLE):
                return rc
            vain = vain + 1 if self.next_steps() == steps else 0
        return 0

    def summary(self):
        found = summary.summarize(self.name, read(self.results), self.meta | {"wanted": self.runs, "untimed": self.args.untimed})
        with open(os.path.join(self.folder, "summary.json"), "w", encoding="utf-8") as f:
            json.dump(found, f, indent=1)
        return found


def impossible(run):
    """The last words of a session that could not do what the campaign is about."""
    reason = ""
    for name in sorted(os.listdir(run.folder)):
        if name.startswith("session-"):
            with open(os.path.join(run.folder, name), encoding="utf-8", errors="replace") as f:
                reason = next((line.strip() for line in f if line.startswith("not possible")), reason)
    return reason or "not possible: see the log"


def one(name, args):
    """Carries out a campaign, prints it; the summary and the exit status."""
    run = Run(name, args)
    print(f"campaign {name}, seed {args.seed}, results in {run.folder}", file=sys.stderr, flush=True)
    rc = run.carry_out()
    if rc == IMPOSSIBLE:
        reason = impossible(run)
        print(f"{name}: {reason}")
        return {"campaign": name, "runs": 0, "passed": False, "impossible": reason} | run.meta, 1
    if rc != 0:
        return {"campaign": name, "runs": 0, "passed": False} | run.meta, rc
    found = run.summary()
    print(f"\n{name}: seed {args.seed}, {found['commit']}, {found['machine']}")
    print("\n".join(summary.table(found)), flush=True)
    return found, 0 if found["passed"] else 1


def everything(args):
    """All campaigns: their objects, and the sums."""
    each, status = {}, 0
    for name in plan.CAMPAIGNS:
        each[name], rc = one(name, args)
        status = status or rc
    whole = {"campaign": "all", "passed": status == 0, "campaigns": each}
    for key in (*summary.SUMS, "app_errors", "leaks"):
        whole[key] = sum(found.get(key, 0) for found in each.values())
    return whole, status


def main():
    parser = argparse.ArgumentParser(prog="tests/fault/run", description="Injects faults under mixed traffic, judged at the peer.")
    parser.add_argument("campaign", choices=[*plan.CAMPAIGNS, "all"], metavar="CAMPAIGN", help=" ".join([*plan.CAMPAIGNS, "all"]))
    parser.add_argument("--runs", type=int, help="how many (default: what the bar asks for)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed gives the same faults (default: drawn, printed)")
    parser.add_argument("--json", metavar="FILE", help="writes the summary there")
    parser.add_argument("--dir", default=os.path.join(ROOT, "build", "fault"), help="folder of results (default build/fault)")
    parser.add_argument("--fresh", action="store_true", help="forgets results of the same campaign and seed; else it goes on")
    parser.add_argument("--path", choices=("tap", "checked", "fused", "lossy"), help="default: what the campaign wants")
    parser.add_argument("--spacing", type=float, help="mean seconds from recovery to the next fault (0.2; 2 where servers end by faults)")
    parser.add_argument("--settle", type=float, default=30, help="seconds of traffic after the last fault of a session (30)")
    parser.add_argument("--untimed", action="store_true", help="shows times and does not judge them: the machine is busy")
    parser.add_argument("--verbose", action="store_true", help="shows what sessions say")
    args = parser.parse_args()
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(3), "big")
    found, status = everything(args) if args.campaign == "all" else one(args.campaign, args)
    print(f"for a browser: {report.write(args.dir)}", file=sys.stderr)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(found, f)
            f.write("\n")
    return status


sys.exit(main())
