"""What `benchmark --json` says, over seeds and detectors, and the scoreboard made of it."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trainer.benchmarks import results, scoreboard
from trainer.benchmarks.cases import Judged
from trainer.benchmarks.published import PUBLISHED
from trainer.benchmarks.suites import SUITES
from trainer.benchmarks.work import OURS, Done
from trainer.commands.benchmark import spread
from trainer.config import TrainerConfig
from trainer.data import DataError
from trainer.metrics import wilson
from trainer.report import page


def done(name: str, seed: int, hit: bool, *, random: bool | None = None) -> Done:  # noqa: FBT001
    judged = {OURS: Judged({"hit": hit})}
    if random is not None:
        judged["random"] = Judged({"hit": random})
    return Done(Path(name), seed, name, judged, windows=1000, cpu=0.01, seconds=2.0)


def body() -> dict[str, Any]:
    """Two files and two seeds; the first seed finds both, the second one of them."""
    some = [
        done("a", 3, hit=True, random=False),
        done("b", 3, hit=True, random=True),
        done("a", 4, hit=True),
        done("b", 4, hit=False),
    ]
    some[3].failed[OURS] = "b: the longest series | has 90 samples"
    found = results.body(SUITES["ucr"], "mine", TrainerConfig(), some, 100, 7.5)
    decoded = json.loads(msgspec.json.encode(found))
    assert isinstance(decoded, dict)
    return decoded


def test_metrics_are_means_over_seeds_and_every_accuracy_has_its_interval() -> None:
    found = body()
    assert {"suite", "recipe", "files", "metrics", "per_file", "seconds"} <= found.keys()
    assert (found["suite"], found["recipe"], found["files"]) == ("ucr", "mine", 2)
    assert found["files_found"] == 100
    assert found["metrics"] == {"accuracy": 0.75}
    assert found["seeds"]["values"] == [3, 4]
    assert found["seeds"]["metrics"]["accuracy"] == {"mean": 0.75, "min": 0.5, "max": 1.0}
    expected = [(wilson(2, 2)[side] + wilson(1, 2)[side]) / 2 for side in (0, 1)]
    assert found["intervals"]["accuracy"] == pytest.approx(expected)
    assert found["baselines"]["random"]["metrics"] == {"accuracy": 0.5}
    assert found["baselines"]["random"]["intervals"]["accuracy"] == pytest.approx(wilson(1, 2))
    assert found["cpu_us_per_window"] == pytest.approx(10)


def test_every_file_is_listed_for_every_seed_and_failures_with_their_reason() -> None:
    found = body()
    assert [(one["file"], one["seed"], one["hit"]) for one in found["per_file"]] == [
        ("a", 3, True), ("b", 3, True), ("a", 4, True), ("b", 4, False),
    ]  # fmt: skip
    assert found["per_file"][1]["baselines"] == {"random": {"hit": True}}
    assert found["per_file"][3]["failed"] == found["failed"][0]["reason"]
    assert found["failed"][0] == {
        "file": "b", "seed": 4, "detector": "ours",
        "reason": "b: the longest series | has 90 samples",
    }  # fmt: skip


def test_a_scoreboard_shows_ours_baselines_published_figures_and_failures(tmp_path: Path) -> None:
    paths = [tmp_path / "board.md", tmp_path / "board.html"]
    for path in paths:
        scoreboard.write(path, [body(), body() | {"suite": "nab", "failed": []}])
    markdown, page = (path.read_text("utf-8") for path in paths)
    assert "| accuracy | 0.750 |" in markdown
    for text in (markdown, html.unescape(page)):
        assert "0.500 to 1.000" in text  # over the seeds
        assert "matrix profile" in text
        assert "2 of the 100 files present, 2 seeds (3, 4)" in text
        assert "are a part of each suite" in text
        assert "No file failed." in text
    assert "has 90 samples" in markdown
    assert "series \\| has" in markdown  # a bar would end the cell
    widths = [line.count("|") - line.count("\\|") for line in markdown.splitlines()]
    head = next(i for i, width in enumerate(widths) if width)
    assert widths[head] == widths[head + 1] == widths[head + 2]
    with pytest.raises(DataError, match="ending"):
        scoreboard.write(tmp_path / "board.txt", [body()])


def test_a_scoreboard_leaves_out_metrics_that_nobody_has(tmp_path: Path) -> None:
    one = msgspec.json.decode(msgspec.json.encode(body()))
    spread = {"mean": None, "min": None, "max": None}
    for name in ("nobodys", "theirs"):
        one["metrics"][name], one["seeds"]["metrics"][name] = None, spread
        for part in one["baselines"].values():
            part["metrics"][name] = 0.25 if name == "theirs" else None
    scoreboard.write(tmp_path / "board.md", [one])
    text = (tmp_path / "board.md").read_text("utf-8")
    assert f"| theirs | {page.NONE} |" in text
    assert "nobodys" not in text


def test_only_results_of_a_benchmark_make_a_scoreboard(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(body()))
    assert scoreboard.read_result(path)["suite"] == "ucr"
    for text in ("not JSON", "[]", '{"suite": "ucr"}'):
        path.write_text(text)
        with pytest.raises(DataError, match="not a result"):
            scoreboard.read_result(path)


def test_published_figures_stand_for_metrics_that_the_suites_have() -> None:
    assert PUBLISHED.keys() == SUITES.keys()
    assert all(
        one.metric == SUITES[suite].headline for suite, some in PUBLISHED.items() for one in some
    )


def test_a_limit_takes_files_evenly_from_all_of_them() -> None:
    files = [Path(str(number)) for number in range(10)]
    assert spread(files, None) == spread(files, 99) == files
    assert spread(files, 4) == [files[0], files[2], files[5], files[7]]
    assert spread(files, 1) == files[:1]
