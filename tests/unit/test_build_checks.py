"""The build's own checks find what they are there to find."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.ci.no_service_skipped import forbidden
from tests.ci.wheel_contents import ROOT, expected, problems

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """<testsuites><testsuite><testcase classname="tests.kafka.t" name="works"/>
<testcase classname="tests.kafka.t" name="x"><skipped type="pytest.skip" message="{reason}"/>
</testcase></testsuite></testsuites>"""
SCRIPTS = "[console_scripts]\nstream-detector = a:b\nstream-trainer = c:d\n"


@pytest.fixture
def contents() -> dict[str, str]:
    """Name -> text of a wheel as it should be."""
    return {
        **dict.fromkeys(expected(), ""),
        "x-1.dist-info/licenses/LICENSE": "",
        "x-1.dist-info/entry_points.txt": SCRIPTS,
    }


def wheel(folder: Path, contents: dict[str, str]) -> Path:
    path = folder / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("no Apache Kafka for the tests. Give one of: ...", 1),
        ("prometheus is not on PATH", 1),
        ("", 1),
        ("no `docker compose` here; install the Compose plugin", 0),
    ],
)
def test_a_skipped_service_test_is_a_failure_of_the_build(
    tmp_path: Path, reason: str, found: int
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(reason=reason))
    assert len(forbidden(report)) == found


def test_a_wheel_with_all_that_git_has_passes(tmp_path: Path, contents: dict[str, str]) -> None:
    assert (ROOT / "pyproject.toml").exists()
    assert "stream_detector/_config/detector.yaml" in contents
    assert problems(wheel(tmp_path, contents)) == []


def test_a_wheel_that_lacks_something_or_holds_too_much_is_refused(
    tmp_path: Path, contents: dict[str, str]
) -> None:
    del contents["trainer/py.typed"]
    del contents["x-1.dist-info/licenses/LICENSE"]
    contents["tests/__init__.py"] = ""
    contents["x-1.dist-info/entry_points.txt"] = "stream-detector = a:b"
    assert set(problems(wheel(tmp_path, contents))) == {
        "missing: trainer/py.typed",
        "missing: LICENSE",
        "should not be there: tests/__init__.py",
        "no command stream-trainer = ",
    }
