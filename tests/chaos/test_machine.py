"""Clocks that are set and disks that are full, as the campaign has them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.chaos.machine import CLOCK, Disk, faked, lacking, set_clock

if TYPE_CHECKING:
    from pathlib import Path

WATCH = """
import sys, time
began = time.time() - time.monotonic()
print("began", flush=True)
for wanted in (90000, -90000, 0):
    while abs(time.time() - time.monotonic() - began - wanted) > 5:
        pass
    print(wanted, flush=True)
"""


def needs(kind: str) -> None:
    """A build must have it; elsewhere what needs it is skipped."""
    if why := lacking([kind]).get(kind):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{kind}: {why}", pytrace=False)
        pytest.skip(why)


def test_the_clock_of_a_whole_process_is_set_while_it_runs(tmp_path: Path) -> None:
    needs("clock_jump")
    clock = tmp_path / "clock"
    with subprocess.Popen(
        [sys.executable, "-c", WATCH],
        env={**os.environ, **faked(), CLOCK: str(clock)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "began\n"
            for seconds in (90000, -90000, 0):
                set_clock(clock, seconds)
                assert process.stdout.readline() == f"{seconds}\n"
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_a_full_disk_takes_nothing_until_it_is_freed_and_keeps_what_is_on_it(
    tmp_path: Path,
) -> None:
    needs("disk_full")
    folder = tmp_path / "disk"
    disk = Disk(folder)
    try:
        (folder / "before").write_bytes(b"kept")
        for _ in range(2):
            disk.fill()
            with pytest.raises(OSError, match="No space left") as raised:
                (folder / "more").write_bytes(b"x")
            assert raised.value.errno == errno.ENOSPC
        disk.free()
        (folder / "after").write_bytes(b"x" * 100_000)
    finally:
        disk.close()
    assert not folder.is_mount()
    assert (folder / "before").read_bytes() == b"kept"
    assert (folder / "after").stat().st_size == 100_000


def test_what_a_machine_lacks_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.machine.LIBRARIES", ())
    monkeypatch.setenv("PATH", "")  # no mount
    found = lacking(["clock_jump", "disk_full", "sigstop"])
    assert found.keys() == {"clock_jump", "disk_full"}
    assert "apt-get install libfaketime" in found["clock_jump"]
    assert "root" in found["disk_full"]
    with pytest.raises(RuntimeError, match="libfaketime"):
        faked()
