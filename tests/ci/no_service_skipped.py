"""python -m tests.ci.no_service_skipped REPORT: a build in which a service test was skipped fails.

REPORT is pytest's --junitxml. A skip may hide everything; only what no build machine can offer may
be skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ALLOWED = (
    "no `docker compose` here",  # Debian has no Compose plugin; the file is checked otherwise too
    "CUDA",
    "this machine has no ::1",
)
"""Reasons, by a part of their text."""


def forbidden(report: Path) -> list[str]:
    found = []
    for case in ET.parse(report).iter("testcase"):
        for skipped in case.iter("skipped"):
            reason = skipped.get("message") or ""
            if skipped.get("type") == "pytest.xfail" or not any(a in reason for a in ALLOWED):
                found.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return found


def main() -> None:
    report = Path(sys.argv[1])
    if not report.exists():
        sys.exit(f"{report}: pytest wrote no report")
    found = forbidden(report)
    if found:
        sys.exit("\n".join(["skipped, which is a failure here:", *found]))


if __name__ == "__main__":
    main()
