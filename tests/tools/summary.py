# SPDX-License-Identifier: BSD-2-Clause
"""summary.py FILE: reads ctest's JUnit file, prints why tests were skipped or failed, and the counts.

A test that ctest could not start (its program was not built) counts as failed, not as skipped.
"""

import sys
import xml.etree.ElementTree as ElementTree


def reason(case):
    """The last line of what a skipped test printed that says SKIP, else its last line at all."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    said = [line for line in lines if "SKIP" in line.upper()]
    return (said or lines or ["no reason given"])[-1].removeprefix("SKIP:").strip()


def main():
    try:
        cases = ElementTree.parse(sys.argv[1]).getroot().findall("testcase")
    except (OSError, ElementTree.ParseError) as error:
        print(f"ctest left no report: {error}")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    passed, failed, skipped = 0, [], []
    for case in cases:
        note = case.find("skipped")
        if case.get("status") == "run":
            passed += 1
        elif note is not None and "SKIP_RETURN_CODE" in note.get("message", ""):
            skipped.append(case)
        else:
            failed.append(case)
    for case in skipped:
        print(f"skipped {case.get('name')}: {reason(case)}")
    for case in failed:
        why = case.find("failure")
        why = why if why is not None else case.find("skipped")
        print(f"failed {case.get('name')}: {why.get('message') or 'failed' if why is not None else 'failed'}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


sys.exit(main())
