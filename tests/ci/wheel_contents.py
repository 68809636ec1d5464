"""python -m tests.ci.wheel_contents WHEEL: the wheel holds what users need and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]


def expected() -> set[str]:
    """Both packages as git has them, and config/ where the installed package finds it."""
    listing = subprocess.run(
        ["git", "ls-files", "stream_detector", "trainer", "config"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return {
        name.replace("config/", "stream_detector/_config/", 1)
        if name.startswith("config/")
        else name
        for name in listing.stdout.splitlines()
    }


def problems(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        notes = {name for name in names if PurePosixPath(name).parts[0].endswith(".dist-info")}
        scripts = "".join(
            archive.read(name).decode() for name in notes if name.endswith("entry_points.txt")
        )
    wanted = expected()
    found = [f"missing: {name}" for name in sorted(wanted - names)]
    found += [f"should not be there: {name}" for name in sorted(names - notes - wanted)]
    for name in ("stream_detector/py.typed", "trainer/py.typed", "stream_detector/_config/"):
        if not any(each.startswith(name) for each in names):
            found.append(f"missing: {name}")
    if not any(name.endswith("/LICENSE") for name in notes):
        found.append("missing: LICENSE")
    found += [
        f"no command {command}"
        for command in ("stream-detector = ", "stream-trainer = ")
        if command not in scripts
    ]
    return found


def main() -> None:
    wheel = Path(sys.argv[1])
    found = problems(wheel)
    for line in found:
        print(f"{wheel.name}: {line}")
    if found:
        sys.exit(1)
    print(
        f"   {wheel.name}: {wheel.stat().st_size // 1024} KiB, {len(expected())} files, as in git"
    )


if __name__ == "__main__":
    main()
