"""Results of `benchmark --json` -> one scoreboard to read: Markdown or HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from trainer.benchmarks.published import PUBLISHED
from trainer.data import DataError
from trainer.report import page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TITLE = "Benchmark scoreboard"
LEAD = (
    "Every row ran the product's own path: train on the part that the suite gives, a bundle, the "
    "detector's engine sample by sample. Causal throughout, never point-adjusted. The files that "
    "were present are a part of each suite, so figures of others, on other files, are for "
    "orientation only."
)


@dataclass(frozen=True, slots=True)
class Table:
    caption: str
    head: list[str]
    rows: list[list[Any]]


def read_result(path: Path) -> dict[str, Any]:
    """What `benchmark --json` printed into a file. Raises DataError for anything else."""
    try:
        found = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: {error}; not a result of `benchmark --json`") from error
    if not isinstance(found, dict) or not {"suite", "metrics", "headline"} <= found.keys():
        raise DataError(f"{path}: not a result of `benchmark --json`")
    return found


def write(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Raises DataError for another ending than .md or .html."""
    if path.suffix not in {".md", ".html"}:
        raise DataError(f"{path}: a scoreboard is written as .md or .html; change the ending")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(results) if path.suffix == ".md" else html(results)
    path.write_text(text, encoding="utf-8")


def markdown(results: Sequence[dict[str, Any]]) -> str:
    parts = [f"# {TITLE}", LEAD, _markdown_table(overview(results))]
    for result in results:
        parts += [f"## {_title(result)}", *_notes(result)]
        parts += [_markdown_table(one) for one in _tables(result)]
    return "\n\n".join(parts) + "\n"


def html(results: Sequence[dict[str, Any]]) -> str:
    top = overview(results)
    first = page.paragraph(LEAD, "lead") + page.table(top.caption, top.head, top.rows)
    sections = [page.Section("overview", TITLE, first)]
    for number, result in enumerate(results):
        text = "".join(page.paragraph(note) for note in _notes(result))
        text += "".join(page.table(one.caption, one.head, one.rows) for one in _tables(result))
        sections.append(page.Section(f"suite-{number}", _title(result), text))
    return page.document(TITLE, sections)


def overview(results: Sequence[dict[str, Any]]) -> Table:
    """One row a result: its headline metric, beside the best baseline and what others published."""
    rows = []
    for one in results:
        metric = one["headline"]
        others = {
            name: part["metrics"].get(metric) for name, part in one.get("baselines", {}).items()
        }
        best = max(
            ((value, name) for name, value in others.items() if value is not None), default=None
        )
        published = [each for each in PUBLISHED.get(one["suite"], []) if each.metric == metric]
        rows.append([
            one["suite"], one["recipe"], one["files"], metric, one["metrics"][metric],
            _interval(one["intervals"].get(metric)),
            page.NONE if best is None else f"{page.shown(best[0])} {best[1]}",
            f"{published[0].value} {published[0].name}" if published else page.NONE,
            one["cpu_us_per_window"],
        ])  # fmt: skip
    head = [
        "suite", "recipe", "files", "metric", "ours", "95% interval", "best baseline",
        "published", "CPU us a window",
    ]  # fmt: skip
    return Table("The metric that stands for each suite", head, rows)


def _title(result: dict[str, Any]) -> str:
    return f"{result.get('title', result['suite'])}, recipe {result['recipe']}"


def _notes(result: dict[str, Any]) -> Iterator[str]:
    seeds = result["seeds"]["values"]
    yield result["protocol"]
    yield (
        f"{result['files']} of the {result['files_found']} files present, "
        f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'} ({', '.join(map(str, seeds))}), "
        f"{result['seconds']:.0f} s in all, "
        f"{page.shown(result['cpu_us_per_window'])} us CPU a window to detect."
    )
    if not result["failed"]:
        yield "No file failed."


def _tables(result: dict[str, Any]) -> Iterator[Table]:
    baselines = result["baselines"]
    several = len(result["seeds"]["values"]) > 1
    head = ["metric", "ours", "95% interval", *(["over seeds"] if several else []), *baselines]
    rows = []
    for name, value in result["metrics"].items():
        others = [part["metrics"].get(name) for part in baselines.values()]
        if value is None and not any(one is not None for one in others):
            continue  # the suite has no such metric
        spread = result["seeds"]["metrics"][name]
        over = [f"{page.shown(spread['min'])} to {page.shown(spread['max'])}"] if several else []
        rows.append([name, value, _interval(result["intervals"].get(name)), *over, *others])
    yield Table("Ours beside baselines on the same files and protocol", head, rows)
    if published := PUBLISHED.get(result["suite"]):
        yield Table(
            "Published by others", ["detector", "metric", "value", "on"],
            [[one.name, one.metric, one.value, one.note] for one in published],
        )  # fmt: skip
    if result["failed"]:
        yield Table(
            "Files that failed; each counts as a miss", ["file", "seed", "detector", "reason"],
            [[one["file"], one["seed"], one["detector"], one["reason"]]
             for one in result["failed"]],
        )  # fmt: skip


def _interval(bounds: Sequence[float | None] | None) -> str:
    if bounds is None or any(bound is None for bound in bounds):
        return page.NONE
    return f"{page.shown(bounds[0])} to {page.shown(bounds[1])}"


def _markdown_table(table: Table) -> str:
    cells = [[page.shown(cell).replace("|", "\\|") for cell in row] for row in table.rows]
    lines = [f"**{table.caption}**", "", _row(table.head), _row(["---"] * len(table.head))]
    return "\n".join([*lines, *map(_row, cells)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
