"""What some faults need of the machine: a wall clock that can be set, a disk that can be full."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")
DISK = 4 << 20
"""Bytes; a worker's snapshots of four partitions take a few hundred thousand."""


def libfaketime() -> Path | None:
    """Put before the C library of a process, it tells all of it another time."""
    found = [path for each in LIBRARIES for path in Path("/").glob(each[1:])]
    return found[0] if found else None


def faked() -> Mapping[str, str]:
    """What a process needs in its environment when it starts, if its clock is to be set later.

    Raises RuntimeError without the library.
    """
    library = libfaketime()
    if library is None:
        raise RuntimeError("no libfaketime on this machine")
    return {
        "LD_PRELOAD": str(library),
        # A clock that never goes back goes on as it was: that is what it is for.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",  # s after which the file is read again
    }


CLOCK = "FAKETIME_TIMESTAMP_FILE"
"""Variable of the environment: the file that says by how much the process's clock is wrong."""


def set_clock(file: Path, seconds: float) -> None:
    staged = file.with_suffix(".new")
    staged.write_text(f"{seconds:+.3f}", "ascii")
    staged.replace(file)


class Disk:
    """A disk of a few megabytes in memory; Linux lets only root have one.

    Raises subprocess.CalledProcessError, OSError where it cannot be had.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"
        folder.mkdir(parents=True)
        options = ["-t", "tmpfs", "-o", f"size={DISK}", "stream-detector-chaos"]
        subprocess.run(["mount", *options, folder], check=True, capture_output=True)

    def fill(self) -> None:
        """Until not a byte more goes onto it."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """What is on it stays in its folder."""
        self.free()
        with tempfile.TemporaryDirectory() as scratch:
            kept = Path(scratch) / "kept"
            shutil.copytree(self._folder, kept)
            subprocess.run(["umount", "--lazy", self._folder], check=True, capture_output=True)
            shutil.copytree(kept, self._folder, dirs_exist_ok=True)


def lacking(kinds: Collection[str]) -> dict[str, str]:
    """Of these kinds of faults those that this machine cannot have, and what would help."""
    found = {}
    if "clock_jump" in kinds and libfaketime() is None:
        found["clock_jump"] = "it needs libfaketime (Debian: apt-get install libfaketime)"
    if "disk_full" in kinds and not _mounts():
        found["disk_full"] = "it needs the right to mount a tmpfs (run as root)"
    return found


def _mounts() -> bool:
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(OSError):
        try:
            Disk(Path(scratch) / "disk").close()
        except subprocess.CalledProcessError:
            return False
        return True
    return False
