# SPDX-License-Identifier: BSD-2-Clause
"""report.py FOLDER: a page for people about the campaigns whose results are in FOLDER: index.html, one file, plots inside.

For each campaign its bars, outcomes by component, gaps as a distribution, what the stack sent to the peer through a
crash of each component, and the failures. Plots are gnuplot's; without it the page has none.
"""

import glob
import html
import json
import os
import shutil
import subprocess
import sys

import judge
import summary

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72em; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2.5em; border-top: 1px solid #ccc; padding-top: .6em; }
table { border-collapse: collapse; margin: .8em 0; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; }
.ok { color: #1a7a3a; } .missed { color: #b3261e; font-weight: bold; }
.meta, figcaption { color: #666; font-size: 13px; }
figure { margin: 1em 0; } svg { max-width: 100%; height: auto; }
li { margin: .1em 0; font-size: 13px; }
"""
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
TERMINAL = 'set terminal svg size 860,%d font "sans,11" background "white"\nset encoding utf8\n'


def plot(script):
    """What gnuplot makes of it, as SVG to be put into a page; nothing if there is no gnuplot."""
    if not shutil.which("gnuplot"):
        return ""
    done = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"<p class=meta>gnuplot: {html.escape(done.stderr[:300])}</p>"
    return done.stdout[done.stdout.find("<svg") :]


def block(name, rows):
    return f"${name} << EOD\n" + "\n".join(" ".join(map(str, row)) for row in rows) + "\nEOD\n"


def gap_plot(series):
    """Cumulative distributions of {name: values in ms}."""
    script, lines = TERMINAL % 360, []
    for i, (name, values) in enumerate(series.items()):
        ordered = sorted(values)
        steps = [(ordered[0], 0), *((v, 100 * (n + 1) / len(ordered)) for n, v in enumerate(ordered))]
        script += block(f"d{i}", [(max(v, 0.01), percent) for v, percent in steps])
        look = "dt 2" if name == "no fault" else ""
        lines.append(f'$d{i} with steps lw 2 {look} lc rgb "{COLORS[i % len(COLORS)]}" title "{name}"')
    script += 'set logscale x\nset grid lc rgb "#dddddd"\nset key right bottom\nset yrange [0:100]\n'
    script += 'set xlabel "longest silence at the peer (ms)"\nset ylabel "runs (%)"\n'
    return plot(script + "plot " + ", ".join(lines) + "\n")


def rate_plot(runs):
    """What the peer received around one fault of each component: a small panel for each."""
    script = TERMINAL % (40 + 120 * len(runs))
    for i, run in enumerate(runs):
        width = run["rate"][1][0] - run["rate"][0][0]
        script += block(f"r{i}", [(ms, size * 8 / (width * 1e6)) for ms, size, _ in run["rate"]])
    script += f"set multiplot layout {len(runs)},1 margins 0.09,0.97,{min(0.4, 0.4 / len(runs)):.3f},0.97 spacing 0,0.03\n"
    script += 'set grid lc rgb "#dddddd"\nset yrange [0:*]\nset arrow from 0, graph 0 to 0, graph 1 nohead dt 2 lc rgb "#b3261e"\n'
    for i, run in enumerate(runs):
        last = i == len(runs) - 1
        script += 'set xlabel "ms from the fault"\n' if last else ""
        script += f'set format x "{"%g" if last else ""}"\nset ylabel "Gbit/s"\nset key left top\n'
        script += f'plot $r{i} with lines lw 1.5 lc rgb "{COLORS[0]}" title "{run["component"]}: {run["class"]}"\n'
    return plot(script + "unset multiplot\n")


def row(cells, tag="td"):
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def outcomes(found):
    head = ("", *(c.replace("_", " ") for c in summary.COLUMNS), "gap p50", "p99", "max ms", "longest stall ms")
    lines = [row(head, "th")]
    for name, c in [*found["per_component"].items(), ("all", found)]:
        gaps = (summary.number(c["gap_ms"][p]) for p in ("p50", "p99", "max"))
        cells = (summary.number(c[column]) for column in summary.COLUMNS)
        lines.append(row((html.escape(name), *cells, *gaps, summary.number(c["stall_max_ms"]))))
    return "<table>" + "".join(lines) + "</table>"


def bars(found):
    lines = [row(("bar", "found", "wanted", ""), "th")]
    for b in found["bar"]:
        wanted = f"at least {b['min']}" if "min" in b else f"at most {b['max']}"
        word = "<span class=ok>met</span>" if b["met"] else "<span class=missed>missed</span>"
        lines.append(row((b["name"].replace("_", " "), summary.number(b["found"]), wanted, word)))
    return "<table>" + "".join(lines) + "</table>"


def campaign(found, lines):
    runs = [x for x in lines if "run" in x]
    verdict = "<span class=ok>all bars met</span>" if found["passed"] else "<span class=missed>bars missed</span>"
    untimed = "; times were not judged" if found.get("untimed") else ""
    parts = [
        f"<h2 id={found['campaign']}>{found['campaign']}: {verdict}</h2>",
        f"<p class=meta>seed {found['seed']}, commit {found['commit']}, {found['date']}, {html.escape(found['machine'])}{untimed}; "
        f"{found['connections']} connections, {found['verified_mb']} MB of bulk streams compared and hashed</p>",
        bars(found),
        outcomes(found),
        "<ul>" + "".join(f"<li>{w}: at most in {p:.2f} % of such runs (95 % confidence)</li>" for w, p in found["bounds_percent"].items()) + "</ul>",
    ]
    series = {}
    for r in runs:
        if r.get("gap_ms") is not None and r["injected"]:
            series.setdefault(r["component"] if len(found["per_component"]) < 8 else r["class"], []).append(r["gap_ms"])
    calm = [g for s in lines if "run" not in s for g in s.get("calm_gap_ms", [])]
    if series:
        picture = gap_plot(dict(sorted(series.items())) | ({"no fault": calm} if calm else {}))
        parts.append(f"<figure>{picture}<figcaption>The longest silence around each fault, as the peer saw it.</figcaption></figure>")
    shown = {}
    for r in runs:
        if r.get("rate"):
            shown.setdefault(r["component"], r)
    if shown:
        picture = rate_plot([shown[name] for name in sorted(shown)][:12])
        parts.append(f"<figure>{picture}<figcaption>What the stack sent through one fault of each kind, at the peer.</figcaption></figure>")
    if found["failures"]:
        parts.append("<h3>What was not masked or transparent</h3><ul>")
        for bad in found["failures"][:200]:
            where = f"run {bad['run']}" if "run" in bad else f"session {bad['session']}"
            events = "; ".join(f"{e['flow']} {e['event']} {e['detail']}" for e in bad.get("events", []))
            parts.append(f"<li>{where}: {html.escape(bad['what'])} {html.escape(events)}</li>")
        parts.append("</ul>")
    return "\n".join(parts)


def overview(all_found):
    head = ("campaign", "runs", "injected", "activated", "manifested", *judge.OUTCOMES, "wrong bytes", "gap p50", "p99", "max ms", "")
    lines = [row(head, "th")]
    for f in all_found:
        word = "<span class=ok>met</span>" if f["passed"] else "<span class=missed>missed</span>"
        cells = [f[k] for k in ("runs", "injected", "activated", "manifested", *judge.OUTCOMES, "wrong_bytes")]
        gaps = [summary.number(f["gap_ms"][p]) for p in ("p50", "p99", "max")]
        lines.append(row((f"<a href=#{f['campaign']}>{f['campaign']}</a>", *cells, *gaps, word)))
    return "<table>" + "".join(lines) + "</table>"


def write(folder):
    """index.html in `folder`; its path. Campaigns without a summary (not possible, interrupted) are left out."""
    pages = []
    for file in sorted(glob.glob(os.path.join(folder, "*", "summary.json"))):
        with open(file, encoding="utf-8") as f:
            found = json.load(f)
        with open(os.path.join(os.path.dirname(file), "runs.jsonl"), encoding="utf-8") as f:
            pages.append((found, [json.loads(line) for line in f if line.endswith("}\n")]))
    out = os.path.join(folder, "index.html")
    with open(out, "w", encoding="utf-8") as f:
        f.write(f"<!doctype html><meta charset=utf-8><title>Eft: faults</title><style>{STYLE}</style>\n")
        f.write("<h1>What Eft does with faults</h1>\n<p>Faults injected under mixed traffic, judged at the peer, a stock Linux kernel. ")
        f.write("docs/testing.md says what the words mean.</p>\n")
        f.write(overview([found for found, _ in pages]))
        for found, lines in pages:
            f.write(campaign(found, lines) + "\n")
    return out


if __name__ == "__main__":
    print(write(sys.argv[1]))
