"""The HTML report, the file of scores that it is made from, and the review table."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from trainer.assess import assess
from trainer.data import DataError, Dataset, SeriesData
from trainer.evaluate import history
from trainer.reading import marks
from trainer.report import render
from trainer.report.page import shown
from trainer.review import write_review
from trainer.scored import About, Episode, Known, Scored, read_scored

if TYPE_CHECKING:
    from pathlib import Path

STEP = 60_000
START = 1_764_201_600_000
EVIL = '<script>alert("x")</script>&'
VOID = {"meta", "img"}


def scored(*, labelled: bool = True, features: int = 2) -> Scored:
    """Two series; the first has a found and a missed anomaly and one false episode."""
    rng = np.random.default_rng(3)
    names = ["one", EVIL]
    n, total = 3000, 6000
    time = START + STEP * np.arange(n, dtype=np.int64)
    observed = rng.normal(size=(total, features)).cumsum(axis=0) / 9
    level = rng.exponential(0.6, total).astype(np.float32)
    level[:59] = np.nan
    anomalous, label = np.zeros(total, bool), np.zeros(total, bool)
    level[1000:1040] += 9
    anomalous[1000:1080], anomalous[2000:2030] = True, True
    label[990:1030], label[2600:2610] = True, True
    known = [
        Known("one", int(time[990]), int(time[1029]), 4.0),
        Known("one", int(time[2600]), int(time[2609]), 1.5),
    ]
    about = About(
        version="v<1>",
        features=["temp", "flow & co"][:features],
        series=names,
        intervals=[float(STEP)] * 2,
        days=2 * n * STEP / 86_400_000,
        grace=60,
        events=4,
        labels="a file" if labelled else None,
        known=known if labelled else [],
        episodes=[
            Episode("one", int(time[1000]), int(time[1079]), 9.0, "critical"),
            Episode("one", int(time[2000]), int(time[2029]), 4.0, "minor"),
        ],
        bundle={"model": "dense_autoencoder", "scales": [1], "metrics": {"train_error_1": 0.02}},
        data={"path": "later.csv"},
        history={"1": {"train": [0.5, 0.2, 0.1], "validation": [0.6, 0.3, 0.2]}},
    )
    return Scored(
        about,
        np.repeat(np.arange(2), n),
        np.tile(time, 2),
        level,
        level * 0.1,
        np.full(total, 3.5),
        anomalous,
        label if labelled else np.zeros(total, bool),
        np.isfinite(level),
        observed,
        (observed + rng.normal(0, 0.1, observed.shape)).astype(np.float32),
        rng.dirichlet(np.ones(features), total).astype(np.float32),
    )


class Reader(HTMLParser):
    """Checks that tags close in order and collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def page() -> str:
    one = scored()
    return render(one, assess(one))


def test_a_report_is_one_file_that_loads_nothing_and_runs_nothing(page: str) -> None:
    reader = read(page)
    assert not reader.all("script")
    assert not reader.all("link")
    assert all(str(image["src"]).startswith("data:image/svg+xml") for image in reader.all("img"))
    assert all(str(link["href"]).startswith("#") for link in reader.all("a"))
    assert not re.search(r"url\(|@import|\bon\w+=", page)


def test_names_from_the_data_are_escaped(page: str) -> None:
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "v&lt;1&gt;" in page
    assert "flow &amp; co" in page


def test_a_report_has_every_section_and_each_link_leads_to_one(page: str) -> None:
    reader = read(page)
    names = [section["id"] for section in reader.all("section")]
    assert [str(link["href"])[1:] for link in reader.all("a")] == names
    assert names == [
        "series",
        "moments",
        "metrics",
        "confusion",
        "curves",
        "errors",
        "delay",
        "training",
        "configuration",
    ]


def test_pictures_have_words_and_tables_have_captions_and_headed_rows(page: str) -> None:
    reader = read(page)
    assert len(reader.all("img")) >= 8
    assert all(image["alt"] for image in reader.all("img"))
    assert len(reader.all("caption")) == len(reader.all("table")) >= 8
    assert {cell["scope"] for cell in reader.all("th")} == {"col", "row"}
    assert reader.all("html")[0]["lang"] == "en"


def test_the_result_comes_first_in_words(page: str) -> None:
    first = page.split("<section", 1)[0]
    assert "Found 1 of 2 labelled anomalies" in first
    assert "with 1 false alarm:" in first
    assert "The alarm came 10 samples after" in first
    assert "Missed: one" in page
    assert "False alarm: one" in page


def test_equal_scores_give_equal_reports(page: str) -> None:
    one = scored()
    assert render(one, assess(one)) == page


def test_without_labels_the_report_says_so_and_shows_what_it_can() -> None:
    one = scored(labelled=False, features=1)
    body = assess(one)
    assert "points" not in body
    page = render(one, body)
    read(page)
    assert "unknown which of them are true" in page
    assert "Give --labels FILE" in page
    assert "Episode: one" in page


def test_without_losses_the_report_says_so() -> None:
    one = scored()
    about = msgspec.structs.replace(one.about, history={}, known=[], episodes=[])
    quiet = Scored(about, *(getattr(one, name) for name in list(Scored.__slots__)[1:]))
    page = render(quiet, assess(quiet))
    read(page)
    assert "were not kept with this bundle" in page
    assert "nothing to show" in page


def test_measures_are_those_of_the_case() -> None:
    body = assess(scored())
    assert (body["labelled"], body["episodes"], body["recall"], body["precision"]) == (
        2,
        2,
        0.5,
        0.5,
    )
    assert (body["event_wise"]["found"], body["event_wise"]["false"]) == (1, 1)
    assert body["detection_delay"]["samples"]["median"] == 10
    assert body["detection_delay"]["seconds"]["median"] == 600
    assert body["false_alarms_per_day"] == pytest.approx(1440 / (6000 - 59))
    assert body["points_in_episodes"]["recall"] == pytest.approx(30 / 50)
    assert [row["found"] for row in body["recall_by_magnitude"]] == [0, 1]
    shares = [band["share"] for band in body["level_distribution"]["all"]["bands"]]
    assert sum(shares) == pytest.approx(1)
    merged = assess(scored(), gap=2000)
    assert merged["event_wise"]["alarms"] == 1


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_scores_come_back_from_their_file_as_they_were(tmp_path: Path, ending: str) -> None:
    one = scored()
    path = tmp_path / f"new/scores{ending}"
    one.save(path)
    back = read_scored(path)
    assert back.about == one.about
    for name in list(Scored.__slots__)[1:]:
        saved, read_back = getattr(one, name), getattr(back, name)
        assert saved.dtype == read_back.dtype, name
        np.testing.assert_array_equal(saved, read_back)


def test_a_file_that_holds_no_scores_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="change the ending"):
        scored().save(tmp_path / "scores.txt")
    other = tmp_path / "other.npz"
    np.savez(other, level=np.zeros(3))
    with pytest.raises(DataError, match="not scores saved by"):
        read_scored(other)
    text = tmp_path / "other.parquet"
    text.write_text("level\n1\n")
    with pytest.raises(DataError, match="not scores saved by"):
        read_scored(text)


def test_a_report_from_saved_scores_needs_no_torch(tmp_path: Path) -> None:
    path, html = tmp_path / "scores.npz", tmp_path / "report.html"
    scored().save(path)
    program = (
        "import sys\nfrom trainer.cli import run\n"
        f"code = run(['evaluate', '--from-scores', {str(path)!r}, '--report', {str(html)!r}])\n"
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    read(html.read_text("utf-8"))


def test_the_review_table_has_a_row_for_each_sample_with_its_verdict(tmp_path: Path) -> None:
    one = scored()
    path = tmp_path / "review.csv"
    write_review(path, one)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(one.code)
    assert [rows[i]["verdict"] for i in (0, 992, 1010, 1035)] == [
        "",
        "false_negative",
        "true_positive",
        "false_positive",
    ]
    assert rows[1010]["time"] == "2025-11-27T16:50:00.000+00:00"
    assert float(rows[1010]["observed.flow & co"]) == pytest.approx(one.observed[1010, 1], rel=1e-6)
    assert (rows[0]["level"], rows[-1]["series"]) == ("", EVIL)


def test_names_of_the_ucr_archive_tell_the_anomaly_and_where_training_ends() -> None:
    def named(name: str, n: int = 100) -> Dataset:
        series = SeriesData(name, 1000 * np.arange(n, dtype=np.int64), np.zeros((n, 1)))
        return Dataset(["value"], [series])

    truth = marks.from_names(named("007_UCR_Anomaly_X_40_60_65"))
    assert truth is not None
    assert truth.marks == {"007_UCR_Anomaly_X_40_60_65": [marks.Mark(60_000, 64_000)]}
    assert truth.begins == {"007_UCR_Anomaly_X_40_60_65": 40_000}
    assert marks.from_names(named("pump_1")) is None
    assert marks.from_names(named("a_40_60_500")) is None


def test_labels_may_tell_how_large_an_anomaly_is(tmp_path: Path) -> None:
    path = tmp_path / "labels.ndjson"
    path.write_text('{"series": "a", "from": 1, "to": 2, "magnitude": 3.5}\n')
    assert marks.from_file(path, ["a"]).marks == {"a": [marks.Mark(1, 2, 3.5)]}


def test_losses_are_read_from_beside_the_model(tmp_path: Path) -> None:
    assert history(tmp_path) == {}
    lines = {"1": {"train": [1.0, 0.5], "validation": [1.1, 0.7]}}
    (tmp_path / "history.json").write_bytes(msgspec.json.encode(lines))
    assert history(tmp_path) == lines
    (tmp_path / "history.json").write_text("[]")
    with pytest.raises(DataError, match=r"history\.json"):
        history(tmp_path)


def test_numbers_have_as_many_digits_as_one_reads() -> None:
    values = [None, float("nan"), True, 12345, 0.12345, 123.456, 45678.9, 6.5e-6, "text"]
    dash = "\N{EN DASH}"
    assert [shown(value) for value in values] == [
        dash, dash, "yes", "12,345", "0.123", "123.5", "45,679", "6.5e-06", "text",
    ]  # fmt: skip
