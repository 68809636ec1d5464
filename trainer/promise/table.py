"""What became of all tasks -> the one JSON object of `promise --json`, and the table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.promise import counts
from trainer.report import page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.promise.work import Done, Setup


def body(recipe: str, setup: Setup, done: Sequence[Done], seconds: float) -> dict[str, Any]:
    samples = sum(one.samples for one in done)
    return {
        "recipe": recipe,
        "series": setup.series,
        "days": setup.days,
        "seed": setup.seed,
        "cases": [line for one in done if one.task.anomaly is None for line in cases(one)],
        "found": [line for one in done if one.task.anomaly is not None for line in found(one)],
        "method": (
            "intervals of ratios: exact Poisson (Garwood) of the count over its dispersion among "
            "series (quasi-Poisson), 95%; of shares: Wilson, 95%"
        ),
        "samples": samples,
        "seconds": seconds,
        "cpu_us_per_sample": 1e6 * sum(one.cpu for one in done) / samples,
    }


def cases(done: Done) -> Iterator[dict[str, Any]]:
    """A cell for each budget."""
    task = done.task
    for budget in counts.BUDGETS:
        episodes = done.episodes[budget.name]
        if done.shifted_at is not None:
            episodes = counts.forgiven(episodes, done.shifted_at)
        yield {
            "case": task.case.name,
            "start": task.start,
            **counts.cell(episodes, budget, task.setup.series, task.setup.days),
        }


def found(done: Done) -> Iterator[dict[str, Any]]:
    """What was found of one kind of anomaly at each budget."""
    task = done.task
    assert task.anomaly is not None
    for budget in counts.BUDGETS:
        episodes = done.episodes[budget.name]
        yield {
            "anomaly": task.anomaly.name,
            "start": task.start,
            "budget": budget.daily,
            "name": budget.name,
            "injected": len(done.injected),
            **counts.found(episodes, done.injected),
            "beside": counts.beside(
                episodes, done.injected, budget, task.setup.series, task.setup.days
            ),
            "oracle": {
                "threshold": done.static_threshold[budget.name],
                **counts.found(done.static[budget.name], done.injected),
            },
        }


CASES_HEAD = (
    "case", "start", "budget", "promised", "realised", "ratio", "95% interval", "kept",
    "warm-up: promised", "realised",
)  # fmt: skip
FOUND_HEAD = (
    "anomaly", "start", "budget", "of", "found", "95% interval", "delay, median", "90%", "oracle",
    "false / promised",
)  # fmt: skip


def case_rows(body: dict[str, Any]) -> list[list[Any]]:
    return [
        [
            one["case"], one["start"], one["name"], round(one["promised"]), one["realised"],
            one["ratio"], _between(one["interval"]), "yes" if one["kept"] else "NO",
            round(one["warm_up"]["promised"]), one["warm_up"]["realised"],
        ]
        for one in body["cases"]
    ]  # fmt: skip


def found_rows(body: dict[str, Any]) -> list[list[Any]]:
    return [
        [
            one["anomaly"], one["start"], one["name"], one["injected"], one["share"],
            _between(one["interval"]), one["delay_steps"]["median"],
            one["delay_steps"]["p90"], one["oracle"]["share"],
            one["beside"]["ratio"],
        ]
        for one in body["found"]
    ]  # fmt: skip


def summary(body: dict[str, Any]) -> str:
    kept = sum(one["kept"] for one in body["cases"])
    return (
        f"recipe {body['recipe']}, {body['series']} series of {body['days']} days a case, seed "
        f"{body['seed']}: {kept} of {len(body['cases'])} cells within their bands, "
        f"{body['seconds']:.0f} s, {body['cpu_us_per_sample']:.1f} us CPU a sample for "
        f"{len(counts.BUDGETS)} budgets"
    )


def lines(body: dict[str, Any]) -> Iterator[str]:
    """For a terminal."""
    for head, rows in ((CASES_HEAD, case_rows(body)), (FOUND_HEAD, found_rows(body))):
        if rows:
            yield from _aligned([list(head), *rows])
            yield ""
    yield summary(body)


def _aligned(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    cells = [[page.shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


def _between(bounds: Sequence[float]) -> str:
    return f"{bounds[0]:.2f} to {bounds[1]:.2f}"
