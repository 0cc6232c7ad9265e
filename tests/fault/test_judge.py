# SPDX-License-Identifier: BSD-2-Clause
"""The judge is judged: what it makes of records that are bad in one respect, of plans, of streams and flows whose peer
breaks the rules. A campaign that could not fail would prove nothing."""

import os
import socket
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import flows
import judge
import plan
import stream
import summary


def event(what):
    return {"time": 0, "flow": "talk", "event": what, "detail": ""}


def record(**more):
    return {
        "run": 0,
        "component": "tcp",
        "class": "kill",
        "injected": 1,
        "activated": 1,
        "manifested": True,
        "outcome": "transparent",
        "corrupt": 0,
        "lost": 0,
        "stall_ms": 1.0,
        "uncalled": [],
        "events": [],
        "peer": {"TCPTimeouts": 0, "RetransSegs": 0},
        "gap_ms": 0.5,
    } | more


class Outcomes(unittest.TestCase):
    def test_the_worst_decides(self):
        for events, stall, manifested, healed, expected in (
            ([], 0.1, False, True, "masked"),
            ([], 0.1, True, True, "transparent"),
            ([], 1.1, True, True, "degraded"),
            (["lost"], 0.1, True, True, "lost"),
            (["corrupt"], 0.1, True, True, "lost"),
            (["lost", "refused"], 5, True, True, "unreachable"),
            (["lost"], 5, True, False, "manual"),
        ):
            with self.subTest(expected=expected):
                self.assertEqual(judge.outcome([event(e) for e in events], stall, manifested, healed), expected)

    def test_what_is_held(self):
        self.assertEqual(judge.leaks({"a": 1, "b": 2}, {"a": 1, "b": 2}), [])
        self.assertEqual(judge.leaks({"a": 1, "b": 2}, {"a": 2}), [("a", 1, 2), ("b", 2, None)])

    def test_who_was_replaced(self):
        self.assertEqual(judge.replaced({"ip": 1, "tcp": 1}, {"ip": 2, "tcp": 2}, ["tcp"]), ({"ip", "tcp"}, {"ip"}))

    def test_errors_of_applications(self):
        self.assertEqual(judge.application_errors("echo", "listening\n"), [])
        self.assertEqual(len(judge.application_errors("echo", "listening\nconnection: reset\nlet through: x\n")), 2)
        self.assertEqual(len(judge.application_errors("nginx", "x [info] closed\ny [error] recv() failed\n")), 1)


class Summaries(unittest.TestCase):
    def verdict(self, runs, sessions=(), campaign="kill"):
        return summary.summarize(campaign, [*runs, *sessions], {"wanted": len(runs)})

    def test_good_passes(self):
        found = self.verdict([record(run=i) for i in range(3)], [{"session": 0}])
        self.assertTrue(found["passed"], found["bar"])
        self.assertEqual((found["runs"], found["transparent"], found["reachable"]), (3, 3, 3))

    def test_each_fault_fails(self):
        for what, run, session in (
            ("a run too few", None, {}),
            ("lost", {"lost": 1, "outcome": "lost"}, {}),
            ("corrupt", {"corrupt": 1, "outcome": "lost"}, {}),
            ("manual", {"outcome": "manual"}, {}),
            ("false restart", {"uncalled": ["ip"]}, {}),
            ("slow", {"gap_ms": 20.0}, {}),
            ("timeout", {"peer": {"TCPTimeouts": 1, "RetransSegs": 1}}, {}),
            ("late loss", {}, {"events": [event("lost")]}),
            ("leak", {}, {"leaks": [("a", 1, 2)]}),
            ("left behind", {}, {"left": "session.sh failed"}),
            ("application", {}, {"app_errors": ["echo: connection: reset"]}),
        ):
            with self.subTest(what=what):
                lines = [{"session": 0} | session] + ([] if run is None else [record(**run)])
                self.assertFalse(summary.summarize("kill", lines, {"wanted": 1})["passed"])

    def test_times_are_not_judged_if_untimed(self):
        lines = [record(gap_ms=20.0), {"session": 0}]
        self.assertTrue(summary.summarize("kill", lines, {"wanted": 1, "untimed": True})["passed"])

    def test_no_fault_is_no_pass(self):
        lines = [record(**{"class": "message", "injected": 0, "manifested": False, "outcome": "masked"}), {"session": 0}]
        self.assertFalse(summary.summarize("message", lines, {"wanted": 1})["passed"])

    def test_the_filter_fails_if_it_was_not_asked_or_answered(self):
        for hammered, good in (((5000, 0), True), ((5000, 1), False), ((0, 0), False)):
            session = {"session": 0, "hammered": dict(zip(("attempts", "answered"), hammered))}
            self.assertEqual(self.verdict([record()], [session], "pf")["passed"], good)

    def test_bounds(self):
        self.assertAlmostEqual(summary.upper_bound(0, 1000), 1 - 0.05 ** (1 / 1000), places=9)
        self.assertAlmostEqual(summary.upper_bound(1, 10), 0.3942, places=4)  # Clopper and Pearson's tables
        self.assertEqual(summary.upper_bound(3, 3), 1.0)

    def test_percentiles(self):
        self.assertEqual([summary.percentile(range(1, 101), p) for p in (50, 99, 100)], [50, 99, 100])

    def test_the_table_has_all_components(self):
        found = self.verdict([record(), record(run=1, component="ip", gap_ms=None)], [{"session": 0}])
        text = "\n".join(summary.table(found))
        self.assertIn("tcp", text)
        self.assertIn("ip ", text)


class Plans(unittest.TestCase):
    def test_a_seed_is_a_plan(self):
        for name in plan.CAMPAIGNS:
            with self.subTest(campaign=name):
                self.assertEqual(plan.steps(name, 7, 40)[:20], plan.steps(name, 7, 20))

    def test_goes_on_where_it_was_interrupted(self):
        campaign = plan.CAMPAIGNS["kill"]
        done = [record(run=run) for run in range(150)]
        self.assertEqual([s["run"] for s in plan.next_steps(campaign, 7, done, 180)], list(range(150, 180)))
        self.assertEqual(plan.next_steps(campaign, 7, done, 150), [])

    def test_counts_what_showed(self):
        campaign = plan.CAMPAIGNS["mutate"]
        full = [record(run=run, component=s) for run, s in enumerate(plan.SERVERS * 2)]
        self.assertEqual(plan.next_steps(campaign, 7, full, 2), [])
        lacking = [r | {"manifested": r["component"] != "ip"} for r in full]
        self.assertEqual({s["component"] for s in plan.next_steps(campaign, 7, lacking, 2)}, {"ip"})

    def test_every_server_has_its_turn(self):
        killed = [s["servers"][0] for s in plan.steps("kill", 3, 12)]
        self.assertEqual(sorted(killed), sorted(plan.SERVERS * 2))
        self.assertEqual(len({tuple(s["servers"]) for s in plan.steps("pairs", 3, 15)}), 15)


class Streams(unittest.TestCase):
    """stream.py's verdict on a peer that is not as it should be."""

    def pull_from(self, source):
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=source, args=(theirs,))
        thread.start()
        try:
            n, digest, rest = stream.receive_blocks(ours, stream.Blocks(5), lambda n: None)
            stream.Client.judge(n, digest, rest)
            return n
        finally:
            ours.close()
            thread.join()

    @staticmethod
    def sending(change):
        def source(s):
            blocks = [b"".join(map(bytes, stream.Blocks(5).parts(n))) for n in range(4)]
            data = change(blocks)
            try:
                s.sendall(data)
            except OSError:
                pass
            s.close()

        return source

    @staticmethod
    def ended(blocks):
        digest = stream.hashlib.sha256(b"".join(blocks)).digest()
        return b"".join(blocks) + stream.trailer(len(blocks), digest)

    def test_good(self):
        self.assertEqual(self.pull_from(self.sending(self.ended)), 4)

    def test_bad(self):
        def flip(blocks):
            data = bytearray(self.ended(blocks))
            data[100000] ^= 1
            return data

        for change, error in (
            (flip, stream.Corrupt),
            (lambda b: self.ended([b[0], b[2], b[1], b[3]]), stream.Corrupt),
            (lambda b: self.ended([b[0], b[0], b[1], b[2]]), stream.Corrupt),
            (lambda b: self.ended(b)[1:], stream.Corrupt),
            (lambda b: b"".join(b[:3]) + stream.trailer(3, bytes(32)), stream.Corrupt),
            (lambda b: b"".join(b[:3]), OSError),
            (lambda b: self.ended(b)[:150000], OSError),
        ):
            with self.assertRaises(error):
                self.pull_from(self.sending(change))


class Flows(unittest.TestCase):
    """A flow against a server that answers with other bytes, closes early, is not there."""

    def against(self, serve):
        listener = socket.create_server(("127.0.0.1", 0))
        flow = flows.Talk("127.0.0.1", 1)
        old, flows.PORTS["echo"] = flows.PORTS["echo"], listener.getsockname()[1]
        self.addCleanup(flows.PORTS.update, echo=old)

        def accept():
            try:
                with listener.accept()[0] as s:
                    serve(s)
            except OSError:
                pass

        if serve:
            threading.Thread(target=accept, daemon=True).start()
        else:
            listener.close()
        flow.start()
        while not flow.events:
            flow.join(0.01)
        listener.close()
        flow.stopping.set()
        flow.join(10)
        return flow.events[0]["event"]

    def test_other_bytes(self):
        self.assertEqual(self.against(lambda s: (s.recv(1), s.recv(1), s.sendall(bytes(500)), s.recv(1))), "corrupt")

    def test_end_of_stream(self):
        self.assertEqual(self.against(lambda s: s.close()), "lost")

    def test_nobody_there(self):
        self.assertEqual(self.against(None), "refused")

    def test_stalls(self):
        flow = flows.Talk("127.0.0.1", 1)
        flow.last, flow.stalls = 20.0, [(3.0, 5.0), (10.0, 10.5)]
        self.assertEqual(flow.longest_stall(4, 6), 2.0)
        self.assertEqual(flow.longest_stall(9, 20), 0.5)
        self.assertEqual(flow.longest_stall(20.5, 23), 3.0)  # still lasts


unittest.main()
