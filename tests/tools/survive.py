# SPDX-License-Identifier: BSD-2-Clause
"""survive.py OPTIONS -- COMMAND…: kills the stack's servers while COMMAND transfers data.

COMMAND is one transfer, run at the peer; it is repeated until every server was killed often enough.
Kills come in seeded order: rounds of one server at a time, then rounds of two within the same
millisecond. A kill counts only if data flowed before it and the transfer still ran a while after it.
Judged from the peer's side alone: the exit status of COMMAND, the SHA-256 of what arrived, and the
longest silence of the stack around each kill in a recording of the packets that the peer received.

Prints one JSON object; progress goes to standard error.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

SERVERS = ("driver", "ip", "tcp", "udp", "pf", "syscall")
STARTED = 1 << 20  # bytes on the device that show that a transfer runs
OUTLIVED = 0.030  # seconds that a transfer must go on after a kill for the kill to count


def schedule(servers, kills, rng):
    """Steps of one or two servers; each server in `kills` of them, the last two times as a pair."""
    steps = []
    single = kills if len(servers) < 2 else max(kills - 2, 0)
    for _ in range(single):
        steps += [(s,) for s in rng.sample(servers, len(servers))]
    for _ in range(kills - single):
        order = rng.sample(servers, len(servers))
        steps += [tuple(order[i : i + 2]) for i in range(0, len(order), 2)]
    return steps


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class Progress:
    """One line that is rewritten on a terminal; a line per transfer elsewhere."""

    def __init__(self, label):
        self.label, self.tty = label, sys.stderr.isatty()

    def show(self, text, last=False):
        if self.tty:
            print(f"\r\033[K{self.label}: {text}", end="\n" if last else "", file=sys.stderr, flush=True)
        elif last:
            print(f"{self.label}: {text}", file=sys.stderr, flush=True)


class Kill:
    def __init__(self, server, at, until, transfer):
        self.server, self.at, self.transfer = server, at, transfer
        self.until = until  # to which moment its silence is looked for; ns, as at
        self.gap_ms = None


class Campaign:
    def __init__(self, args):
        self.args = args
        self.steps = schedule(args.servers, args.kills, random.Random(args.seed))
        self.total = sum(map(len, self.steps))
        self.kills = []
        self.pairs = []  # ns between the two kills of a pair
        self.failed = []  # (number of the transfer, reason)
        self.transfers = 0
        self.seconds = 0.0
        self.refused = 0
        self.progress = Progress(args.label)

    def carried(self, process):
        """Bytes in and out of the device, in the network namespace of `process`."""
        try:
            with open(f"/proc/{process.pid}/net/dev", encoding="ascii") as f:
                for line in f:
                    name, _, rest = line.partition(":")
                    if name.strip() == self.args.device:
                        field = rest.split()
                        return int(field[0]) + int(field[8])
        except OSError:
            pass
        return 0

    def kill(self, step):
        """`eft crash kill` for the servers of the step. Returns the moments (ns of CLOCK_REALTIME) at
        which they died, or None if one was not there to be killed."""
        done = subprocess.run(
            [self.args.eft, "crash", "kill", "--name", self.args.stack, *step],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=30,
            check=False,
        )
        return None if done.returncode else [int(line.split()[1]) for line in done.stdout.splitlines()]

    def transfer(self):
        """One transfer under kills. Returns the kills carried out in it, whether they count or not."""
        args = self.args
        if args.result and os.path.exists(args.result):
            os.unlink(args.result)
        start = time.monotonic()
        process = subprocess.Popen(args.command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        # By a thread, because a kill takes its time, and the silence behind the end is not the stack's.
        ended = []
        waiter = threading.Thread(target=lambda: (process.wait(), ended.append(time.time_ns())))
        waiter.start()
        done, base, began, next_kill = [], 0, False, 0.0
        while process.poll() is None:
            now = time.monotonic()
            if now - start > args.timeout:
                process.kill()
            if not began:
                # Until nsenter has entered the peer's namespace, the device is not to be seen.
                base = base or self.carried(process)
                began = base > 0 and self.carried(process) - base > STARTED
                next_kill = now + args.spacing / 4
            elif self.steps and now >= next_kill:
                moments = self.kill(self.steps[0])
                if moments:
                    done.append((self.steps.pop(0), moments))
                else:
                    self.refused += 1
                next_kill = time.monotonic() + args.spacing
                self.progress.show(self.state())
            time.sleep(0.002)
        waiter.join()
        end, end_ns = time.monotonic(), ended[0]
        last = end_ns - int(OUTLIVED * 1e9)
        self.transfers += 1
        problem = process.stderr.read().strip() or f"exit status {process.returncode}"
        if process.returncode == 0:
            problem = "" if not args.sha256 or sha256(args.result) == args.sha256 else "SHA-256 differs"
            self.seconds += end - start
        if problem:
            self.failed.append((self.transfers, problem))
        for i, (step, moments) in enumerate(done):
            if not problem and max(moments) > last:
                self.steps.append(step)  # it came too late to prove anything: once more
                continue
            until = end_ns - int(OUTLIVED / 2 * 1e9)
            if i + 1 < len(done):
                until = min(until, *done[i + 1][1])
            if len(step) > 1:
                self.pairs.append(max(moments) - min(moments))
            self.kills += [Kill(s, at, until, self.transfers) for s, at in zip(step, moments)]
        return done

    def state(self):
        landed = self.total - sum(map(len, self.steps))
        return f"{landed} of {self.total} kills, transfer {self.transfers + 1}"

    def run(self):
        deadline, idle = time.monotonic() + self.args.limit, 0
        while (self.steps or self.transfers == 0) and time.monotonic() < deadline:
            done = self.transfer()
            idle = 0 if done else idle + 1
            if len(self.failed) >= 3 or (self.failed and not done) or idle >= 10:
                break  # it does not work at all: more of the same tells nothing
            if not self.progress.tty and self.steps:
                print(f"{self.args.label}: {self.state()}", file=sys.stderr, flush=True)
        self.progress.show(f"{len(self.kills)} kills in {self.transfers} transfers", last=True)

    def measure_gaps(self, recording):
        for kill in self.kills:
            after = max(kill.until - kill.at, 0) / 1e6
            out = subprocess.run(
                [self.args.gaps, "report", recording, "--before-ms", "5", "--after-ms", f"{after:.3f}", str(kill.at)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            kill.gap_ms = json.loads(out)["kills"][0]["gap_ms"]

    def result(self):
        broken = {number for number, _ in self.failed}
        components = []
        for server in self.args.servers:
            own = [k for k in self.kills if k.server == server]
            gaps = [k.gap_ms for k in own if k.gap_ms is not None]
            components.append(
                {
                    "name": server,
                    "kills": len(own),
                    "gap_ms": round(max(gaps), 1) if gaps else None,
                    "alive": bool(own) and not any(k.transfer in broken for k in own),
                }
            )
        good = self.transfers - len(self.failed)
        return {
            "label": self.args.label,
            "seed": self.args.seed,
            "sha256_ok": good > 0 and not self.failed,
            "transfers": self.transfers,
            "failed": [f"transfer {number}: {reason}" for number, reason in self.failed],
            "unfinished_kills": sum(map(len, self.steps)),
            "pairs_within_1ms": sum(apart < 1000000 for apart in self.pairs),
            "refused_kills": self.refused,
            "gbit_s": round(good * self.args.bytes * 8 / self.seconds / 1e9, 3) if self.seconds else 0,
            "components": components,
            "each": [{"server": k.server, "transfer": k.transfer, "time_ns": k.at, "gap_ms": k.gap_ms} for k in self.kills],
        }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eft", required=True, help="the operator's command")
    parser.add_argument("--gaps", required=True, help="the program tests/tools/gaps of the build")
    parser.add_argument("--stack", required=True, help="name of the stack")
    parser.add_argument("--peer-ns", required=True)
    parser.add_argument("--device", default="eft0", help="of the peer (default eft0)")
    parser.add_argument("--servers", default=",".join(SERVERS), help="which to kill, with commas")
    parser.add_argument("--kills", type=int, default=5, help="of each server (default 5)")
    parser.add_argument("--spacing", type=float, default=0.25, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--label", default="transfer")
    parser.add_argument("--result", help="file that a transfer brings; compared with --sha256")
    parser.add_argument("--sha256")
    parser.add_argument("--bytes", type=int, default=0, help="payload of one transfer")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one transfer")
    parser.add_argument("--limit", type=float, default=240, help="seconds after which no transfer begins")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    args.command = args.command[1:] if args.command[:1] == ["--"] else args.command
    args.servers = [s for s in args.servers.split(",") if s]
    if not args.command or bool(args.sha256) != bool(args.result):
        parser.error("COMMAND, and --result with --sha256, are needed")
    return args


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    campaign = Campaign(args)
    recording = f"/dev/shm/eft-gaps-{os.getpid()}"
    recorder = subprocess.Popen(
        [args.gaps, "record", "--netns", args.peer_ns, "--dev", args.device, "--direction", "in", "--output", recording],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if recorder.stdout.readline().strip() != "recording":
            sys.exit("the recording does not start")
        campaign.run()
        recorder.terminate()
        recorder.wait(timeout=30)
        campaign.measure_gaps(recording)
    finally:
        recorder.kill()
        recorder.wait()
        if os.path.exists(recording):
            os.unlink(recording)
    result = campaign.result()
    print(json.dumps(result))
    good = result["sha256_ok"] and not result["unfinished_kills"]
    return 0 if good and all(c["alive"] for c in result["components"]) else 1


sys.exit(main())
