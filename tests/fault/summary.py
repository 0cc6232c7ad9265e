# SPDX-License-Identifier: BSD-2-Clause
"""From the JSON lines of a campaign to its numbers: the object of --json, a table for people, the verdict. No I/O."""

import math

import judge
from plan import CAMPAIGNS

TIMED = ("gap_p50_ms", "gap_p99_ms", "peer_timeouts", "peer_retransmissions")
SUMS = ("runs", "injected", "activated", "manifested", *judge.OUTCOMES, "reachable", "connections_lost", "wrong_bytes")


def percentile(values, percent):
    """The smallest value that at least so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)] if ordered else None


def upper_bound(k, n, confidence=0.95):
    """Clopper and Pearson: the largest rate at which k or fewer of n are still seen with chance 1 - confidence."""
    if n == 0 or k >= n:
        return 1.0

    def at_most_k(p):
        logs = [
            math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
            for i in range(k + 1)
        ]
        return sum(math.exp(x) for x in logs)

    low, high = k / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle < 1 and at_most_k(middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def gaps(runs):
    values = [r["gap_ms"] for r in runs if r["injected"] and r.get("gap_ms") is not None]
    return {"p50": percentile(values, 50), "p99": percentile(values, 99), "max": max(values, default=None)}


def count(runs):
    """The sums over some runs."""
    found = {
        "runs": len(runs),
        "injected": sum(r["injected"] for r in runs),
        "activated": sum(r["activated"] for r in runs),
        "manifested": sum(r["manifested"] for r in runs),
    }
    found |= {name: sum(r["outcome"] == name for r in runs) for name in judge.OUTCOMES}
    found["reachable"] = len(runs) - found["unreachable"] - found["manual"]
    found["connections_lost"] = sum(r["lost"] for r in runs)
    found["wrong_bytes"] = sum(r["corrupt"] for r in runs)
    return found | {"gap_ms": gaps(runs), "stall_max_ms": max((r["stall_ms"] for r in runs), default=None)}


def summarize(campaign, lines, meta):
    """The object of --json, from the JSON lines of one campaign."""
    runs = [x for x in lines if "run" in x]
    sessions = [x for x in lines if "run" not in x]
    late = [e for s in sessions for e in s.get("events", [])]
    errors = [e for s in sessions for e in s.get("app_errors", [])]
    found = {"campaign": campaign} | count(runs)
    found["connections_lost"] += sum(e["event"] in ("lost", "refused") for e in late)
    found["wrong_bytes"] += sum(e["event"] == "corrupt" for e in late) + sum("corrupt:" in e for e in errors)
    # Streams are compared and hashed to their end; what a session that broke off did not verify is not counted.
    found["app_errors"] = len(errors)
    found["leaks"] = sum(len(s.get("leaks", [])) for s in sessions) + sum(bool(s.get("left")) for s in sessions)
    hammered = [s["hammered"] for s in sessions if s.get("hammered")]
    found["hammered"] = sum(h["attempts"] for h in hammered)
    found["let_through"] = sum("let through" in e for e in errors) + sum(h["answered"] for h in hammered)
    found["false_restarts"] = sum(len(r["uncalled"]) for r in runs)
    found["peer_timeouts"] = sum(r["peer"]["TCPTimeouts"] for r in runs)
    found["peer_retransmissions"] = sum(r["peer"]["RetransSegs"] for r in runs)
    found["connections"] = sum(s.get("connections", 0) for s in sessions)
    found["verified_mb"] = sum(s.get("verified_mb", 0) for s in sessions)
    found["calm_gap_ms"] = gaps([{"injected": 1, "gap_ms": g} for s in sessions for g in s.get("calm_gap_ms", [])])
    components = sorted({r["component"] for r in runs})
    found["per_component"] = {c: count([r for r in runs if r["component"] == c]) for c in components}
    classes = sorted({r["class"] for r in runs})
    found["per_class"] = {c: count([r for r in runs if r["class"] == c]) for c in classes}
    shown = found["manifested"]
    alive = sum(r["manifested"] and r["outcome"] in ("masked", "transparent", "degraded") for r in runs)
    found["gap_p50_ms"], found["gap_p99_ms"] = found["gap_ms"]["p50"], found["gap_ms"]["p99"]
    found["reachable_percent"] = 100 * (shown - found["unreachable"] - found["manual"]) / shown if shown else None
    made = [r for r in runs if r["injected"]]
    away = sum(r["outcome"] in ("unreachable", "manual") for r in made)
    found["contained_percent"] = 100 * (len(made) - away) / len(made) if made else None
    found["alive_percent"] = 100 * alive / shown if shown else None
    found["transparent_percent"] = 100 * found["transparent"] / shown if shown else None
    found["bounds_percent"] = {
        "a connection was lost": bound(found["lost"] + found["unreachable"] + found["manual"], len(runs)),
        "bytes were wrong": bound(sum(bool(r["corrupt"]) for r in runs), len(runs)),
        "not reachable": bound(found["unreachable"] + found["manual"], len(runs)),
    }
    found["done"] = CAMPAIGNS[campaign].done(runs)
    found["failures"] = failures(runs, sessions)
    found |= meta
    found["bar"] = bars(campaign, found)
    found["passed"] = all(b["met"] for b in found["bar"])
    return found


def bound(k, n):
    return round(100 * upper_bound(k, n), 3)


def failures(runs, sessions):
    bad = [
        {"run": r["run"], "what": f"{r['class']} {r['component']}: {r['outcome']}", "events": r["events"][:5]}
        for r in runs
        if r["outcome"] not in ("masked", "transparent") or r["corrupt"] or r["uncalled"]
    ]
    for s in sessions:
        for key in ("problem", "left"):
            if s.get(key):
                bad.append({"session": s["session"], "what": s[key]})
        bad += [{"session": s["session"], "what": f"{e['flow']}: {e['event']}: {e['detail']}"} for e in s.get("events", [])]
        bad += [{"session": s["session"], "what": f"held {name}: {a} before, {b} after"} for name, a, b in s.get("leaks", [])]
        bad += [{"session": s["session"], "what": e} for e in s.get("app_errors", [])[:5]]
    return bad


def bars(campaign, found):
    """Each bar of the campaign with what was reached. A number that is missing is a bar missed, and so is a run. On
    a busy machine ("untimed") times are shown and not judged."""
    wanted = found.get("wanted", 0)
    done = found["done"]
    result = [{"name": CAMPAIGNS[campaign].unit, "min": wanted, "found": done, "met": done >= wanted > 0}]
    for name, (kind, limit) in CAMPAIGNS[campaign].bar.items():
        value = found.get(name)
        met = value is not None and (value >= limit if kind == "min" else value <= limit)
        met = met or (name in TIMED and found.get("untimed", False))
        result.append({"name": name, kind: limit, "found": value, "met": met})
    return result


def number(value):
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


COLUMNS = ("runs", "injected", "activated", "manifested", *judge.OUTCOMES, "wrong_bytes")


def table(found):
    """Lines for people."""
    rows = [("", *(c.replace("_", " ") for c in COLUMNS), "gap p50", "p99", "max ms", "stall ms")]
    parts = [*found["per_component"].items(), ("all", found)]
    if len(found["per_class"]) > 1:
        parts[-1:-1] = found["per_class"].items()
    for name, c in parts:
        gap = (c["gap_ms"][p] for p in ("p50", "p99", "max"))
        rows.append((name, *(number(c[column]) for column in COLUMNS), *map(number, gap), number(c["stall_max_ms"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(word.rjust(w) if i else word.ljust(w) for i, (word, w) in enumerate(zip(row, widths))) for row in rows]
    lines += ["", f"{found['connections']} connections, {found['verified_mb']} MB of bulk streams compared and hashed"]
    calm = found["calm_gap_ms"]
    lines.append(f"gap at moments without a fault: p50 {number(calm['p50'])}, max {number(calm['max'])} ms")
    for what, percent in found["bounds_percent"].items():
        lines.append(f"{what}: at most in {percent:.2f} % of such runs (95 % confidence)")
    for b in found["bar"]:
        limit = f"at least {b['min']}" if "min" in b else f"at most {b['max']}"
        lines.append(f"{'ok    ' if b['met'] else 'MISSED'} {b['name']}: {number(b['found'])}, wanted {limit}")
    for bad in found["failures"][:20]:
        where = f"run {bad['run']}" if "run" in bad else f"session {bad['session']}"
        lines.append(f"  {where}: {bad['what']}")
        lines += [f"      {e['flow']}: {e['event']}: {e['detail']}" for e in bad.get("events", [])[:3]]
    if len(found["failures"]) > 20:
        lines.append(f"  … and {len(found['failures']) - 20} more")
    return lines
