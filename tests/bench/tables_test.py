#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What run makes of its measurements, what compare says about two tables of it, and how table shows one."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import SourceFileLoader

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
run = SourceFileLoader("run", os.path.join(HERE, "run")).load_module()
compare = SourceFileLoader("compare", os.path.join(HERE, "compare")).load_module()
pages = SourceFileLoader("table", os.path.join(HERE, "table")).load_module()
KEYS = "case shape idle ours kernel unit ratio spread ours_cpu_us_per_op kernel_cpu_us_per_op syscalls_per_op"


def measured(value, cpu=10.0, calls=None, p99=None):
    return {"value": value, "p99_us": p99, "cpu_us_per_op": cpu, "syscalls_per_op": calls}


def a_row():
    ours = [measured(v, calls=c) for v, c in ((9, 3.0), (12, None), (10, None))]
    kernel = [measured(v, cpu=20.0) for v in (10, 10, 5)]
    r = run.row("dns", "fused", "poll", ours, kernel)
    assert list(r) == KEYS.split(), r
    assert (r["ours"], r["kernel"], r["ratio"]) == (10, 10, 1.0), r
    # Pairs 0.9, 1.2 and 2.0: half of 1.1 by 1.2.
    assert r["spread"] == 0.458, r
    assert (r["ours_cpu_us_per_op"], r["kernel_cpu_us_per_op"], r["syscalls_per_op"]) == (10, 20, 3), r
    tail = run.row("rtt-tcp-p99", "split", "default", [measured(1, p99=30)], [measured(1, p99=10)])
    assert (tail["ratio"], tail["unit"], tail["syscalls_per_op"]) == (3.0, "us", None), tail


def table(**changes):
    row = dict(zip(KEYS.split(), ("dns", "split", "default", 1, 1, "req/s", 1.0, 0.02, 10.0, 10.0, 2.0)))
    return [dict(row, **changes)]


def verdict(old, new):
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("old", "new")]
        for path, rows in zip(paths, (old, new)):
            with open(path, "w", encoding="utf-8") as f:
                json.dump(rows, f)
        said = io.StringIO()
        sys.argv = ["compare", *paths]
        with contextlib.redirect_stdout(said):
            status = compare.main()
        return status, said.getvalue()


def comparisons():
    cases = (
        # old, new, exit status, what is said
        (table(), table(), 0, "1 rows compared, 0 worse"),
        (table(), table(ratio=0.92), 0, "0 worse"),
        (table(), table(ratio=0.85), 1, "result WORSE"),
        (table(), table(ratio=1.2), 0, "result better"),
        (table(), table(ratio=0.85, spread=0.3), 0, "worse, within the spread"),
        (table(spread=0.3), table(ratio=0.85), 0, "worse, within the spread"),
        (table(unit="us"), table(unit="us", ratio=1.2), 1, "result WORSE"),
        (table(unit="us"), table(unit="us", ratio=0.8), 0, "result better"),
        (table(), table(ours_cpu_us_per_op=12.0), 1, "processor time WORSE"),
        # The machine became slower, for both.
        (table(), table(ours=2, kernel=2, ours_cpu_us_per_op=20.0, kernel_cpu_us_per_op=20.0), 0, "0 worse"),
        (table(), table(shape="fused"), 1, "dns split default: missing"),
    )
    for old, new, status, words in cases:
        got = verdict(old, new)
        assert got[0] == status and words in got[1], (old, new, got)


def a_page():
    rows = table() + table(shape="fused", ratio=2.0, spread=0.1) + table(case="rtt-tcp-p50", unit="us", ratio=0.5, idle="poll")
    lines = pages.markdown(rows).splitlines()
    assert len(lines) == 5 and lines[3] == "| dns | fused | default | 1 | 1 | req/s | 2.00 | ±10% | 10 | 10 | 2 |", lines
    said = pages.script(rows, "it's.svg")
    # Times are turned round; what is not there leaves its place empty.
    assert '"dns" 1.0000 0.0200 2.0000 0.2000' in said and '"rtt-tcp-p50" 2.0000 0.0400 ? ?' in said, said
    assert "set output 'it''s.svg'" in said and "layout 2,1" in said, said
    if shutil.which("gnuplot") is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "it's.svg")
            subprocess.run(["gnuplot"], input=pages.script(rows, path), text=True, check=True)
            with open(path, encoding="utf-8") as f:
                assert "rtt-tcp-p50" in f.read()


a_page()
a_row()
comparisons()
