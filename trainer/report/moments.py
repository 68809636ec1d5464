"""Series from afar and moments from close by: what was true, what was said, what was expected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer.metrics.events import merge
from trainer.report import page, pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.scored import Scored

SERIES, FEATURES, CLOSEUPS = 6, 4, 6
POINTS = 1600
"""Points of a line in a picture at most: about as many as a screen has columns."""


class Moment(NamedTuple):
    """An episode or a missed anomaly, ms."""

    series: int
    start: int
    end: int
    what: str  # found, false or missed


def moments(scores: Scored) -> list[Moment]:
    """All that happened, by series and time; without labels every episode is just `alarm`."""
    about = scores.about
    found = []
    for place, (name, interval) in enumerate(zip(about.series, about.intervals, strict=True)):
        late = about.late(interval)
        begin = about.begins.get(name, -(2**62))
        known = merge((one.start, one.end) for one in about.known if one.series == name)
        said = [(one.start, one.end) for one in about.episodes if one.series == name]
        for start, end in said:
            if end < begin:
                continue
            true = any(start <= b + late and a <= end for a, b in known)
            word = ("found" if true else "false") if scores.labelled else "alarm"
            found.append(Moment(place, start, end, word))
        for a, b in known:
            if b >= begin and not any(start <= b + late and a <= end for start, end in said):
                found.append(Moment(place, a, b, "missed"))
    return sorted(found)


def overview(scores: Scored) -> page.Section:
    """The series in which most happened, whole."""
    about = scores.about
    all_of_them = moments(scores)
    busy = [0] * len(about.series)
    for moment in all_of_them:
        busy[moment.series] += 1
    order = sorted(range(len(busy)), key=lambda place: (-busy[place], place))[:SERIES]
    html = page.paragraph(
        "The samples that count. Orange: true anomalies. Bars at the top of the level's chart: "
        "episodes, blue where they answer a true anomaly, red where they do not. "
        + ("" if scores.labelled else "Nothing was labelled, so no episode counts as true."),
        "note",
    )
    if len(order) < len(busy):
        html += page.paragraph(f"{len(order)} of {len(busy)} series, those with most to see.")
    rows = dict(enumerate(part for _, part in scores.parts()))
    for place in sorted(order):
        name, part = about.series[place], rows[place]
        if part.start == part.stop:
            continue
        begin = about.begins.get(name)
        if begin is not None:
            part = slice(
                part.start + int(np.searchsorted(scores.timestamp[part], begin)), part.stop
            )
        says = _says([one for one in all_of_them if one.series == place])
        svg = pictures.track(_track(scores, place, part, _prominent(scores, part), expected=False))
        html += page.heading(name)
        html += page.figure(svg, f"Series {name}: {says}.", f"{says}.", wide=True)
    return page.Section("series", "Series", html)


def _says(some: list[Moment]) -> str:
    counts = {what: sum(one.what == what for one in some) for what in WORDS}
    parts = [f"{n} {WORDS[what][n != 1]}" for what, n in counts.items() if n]
    return ", ".join(parts) or "no episode"


WORDS = {
    "found": ("true episode", "true episodes"),
    "false": ("false episode", "false episodes"),
    "missed": ("missed anomaly", "missed anomalies"),
    "alarm": ("episode", "episodes"),
}
TITLES = {
    "found": "Found",
    "false": "False alarm",
    "missed": "Missed",
    "alarm": "Episode",
}


def closeups(scores: Scored) -> page.Section:
    """Observed against expected around a few moments of each kind, and who contributed."""
    html = page.paragraph(
        "What was observed against what the model expected, with a window's length or more around. "
        "A feature's contribution is its share of the score.",
        "note",
    )
    chosen = _chosen(moments(scores))
    if not chosen:
        html += page.paragraph("No episode and no missed anomaly: nothing to show.")
    parts = [part for _, part in scores.parts()]
    for moment in chosen:
        part = parts[moment.series]
        interval = scores.about.intervals[moment.series]
        around = int(max(scores.about.late(interval), 0.5 * (moment.end - moment.start)))
        times = scores.timestamp[part]
        first, last = np.searchsorted(times, [moment.start - around, moment.end + around])
        rows = slice(part.start + int(first), part.start + max(int(last), int(first) + 2))
        core = slice(*(part.start + np.searchsorted(times, [moment.start, moment.end + 1])))
        features = _prominent(scores, core)
        when = _when(scores, moment.series, moment.start)
        title = f"{TITLES[moment.what]}: {scores.about.series[moment.series]}, {when}"
        svg = pictures.track(_track(scores, moment.series, rows, features, expected=True))
        html += page.heading(title)
        html += page.figure(svg, f"{title}: observed, expected and level.", wide=True)
        html += _contributions(scores, core)
    return page.Section("moments", "Observed against expected", html)


def _chosen(some: list[Moment]) -> list[Moment]:
    """A few of each kind in turn, the longest first."""
    kinds = [
        sorted((one for one in some if one.what == what), key=lambda one: one.start - one.end)
        for what in TITLES
    ]
    turns = [kind[turn] for turn in range(CLOSEUPS) for kind in kinds if turn < len(kind)]
    return turns[:CLOSEUPS]


def _contributions(scores: Scored, rows: slice) -> str:
    features = scores.about.features
    if len(features) == 1 or rows.start == rows.stop:
        return ""
    share = scores.contribution[rows]
    share = share[np.isfinite(share).all(axis=1)]
    if not len(share):
        return ""
    mean = share.mean(axis=0)
    mean = mean / max(float(mean.sum()), 1e-12)
    order = np.argsort(-mean, kind="stable")[:10]
    return page.table(
        "Mean contribution over the moment",
        ["feature", "share", "observed, mean", "expected, mean"],
        [
            [
                features[place],
                float(mean[place]),
                float(scores.observed[rows, place].mean()),
                float(np.nanmean(scores.expected[rows, place])),
            ]
            for place in order
        ],
    )


def _prominent(scores: Scored, rows: slice) -> list[int]:
    """Features that contributed most, at most a few, in the bundle's order."""
    share = scores.contribution[rows]
    share = share[np.isfinite(share).all(axis=1)]
    mean = share.mean(axis=0) if len(share) else np.zeros(len(scores.about.features))
    return sorted(np.argsort(-mean, kind="stable")[:FEATURES].tolist())


def _track(
    scores: Scored, place: int, rows: slice, features: list[int], *, expected: bool
) -> pictures.Track:
    about = scores.about
    name, late = about.series[place], about.late(about.intervals[place])
    first, last = int(scores.timestamp[rows][0]), int(scores.timestamp[rows][-1])
    sampled = _counted(scores, place)

    def axis(times: NDArray[np.int64] | int) -> Any:
        return np.asarray(times) / 1000 if sampled else np.asarray(times, "datetime64[ms]")

    known = [(one.start, one.end) for one in about.known if one.series == name]
    some = _thin(scores.level[rows], scores.observed[rows][:, features])
    return pictures.Track(
        axis(scores.timestamp[rows][some]),
        "sample" if sampled else "time, UTC",
        [about.features[i] for i in features],
        scores.observed[rows][some][:, features],
        scores.expected[rows][some][:, features] if expected else None,
        scores.level[rows][some],
        scores.threshold[rows][some],
        [(axis(a), axis(b)) for a, b in known if a <= last and b >= first],
        [
            (
                axis(max(one.start, first)),
                axis(min(one.end, last)),
                not scores.labelled
                or any(one.start <= b + late and a <= one.end for a, b in known),
            )
            for one in about.episodes
            if one.series == name and one.start <= last and one.end >= first
        ],
    )


def _thin(level: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Rows to draw: in each of many bins the extremes of every line, so that no spike is lost."""
    n = len(level)
    if n <= POINTS:
        return np.arange(n)
    lines = np.column_stack((np.nan_to_num(level), np.nan_to_num(values)))
    size = -(-n // max(POINTS // (2 * lines.shape[1]), 100))
    whole = n // size * size
    bins = lines[:whole].reshape(-1, size, lines.shape[1])
    base = np.arange(0, whole, size)[:, None]
    rows = [base + bins.argmin(axis=1), base + bins.argmax(axis=1)]
    return np.unique(np.concatenate([*(part.ravel() for part in rows), [0, n - 1]]))


def _counted(scores: Scored, place: int) -> bool:
    """Whether the data had no times, so that sample i lies at i seconds after 1970."""
    rows = np.flatnonzero(scores.code == place)[:1]
    return bool(len(rows)) and int(scores.timestamp[rows[0]]) < 1_000_000


def _when(scores: Scored, place: int, time: int) -> str:
    if _counted(scores, place):
        return f"sample {time // 1000:,}"
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
