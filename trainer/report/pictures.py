"""Pictures of series, episodes and scores, PNG files or SVG. All that knows matplotlib is here.

Colours are Okabe and Ito's, which colour-blind people can tell apart; what matters also differs by
shape or place. Nothing here touches a display or matplotlib's global state.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context, ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

INK, GREY = "#222222", "#8A8A8A"
BLUE, ORANGE, RED, SKY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9"
DPI = 110
STRIDE = 4.5
"""Distance between the features of a strip, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in hours; `good` tells a found episode from a false one."""

    start: float
    end: float
    text: str = ""
    good: bool = True


@dataclass(frozen=True, slots=True)
class Strip:
    """One series: its values, its level, what was wrong with it and what was said of it."""

    title: str
    features: Sequence[str]
    hours: NDArray[np.float64]  # [n]
    values: NDArray[np.float64]  # [n, F]
    level: NDArray[np.float64]  # [n] NaN where there is none
    threshold: float
    faults: Sequence[Span]
    episodes: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One feature around one episode."""

    title: str
    feature: str
    hours: NDArray[np.float64]  # [n]
    observed: NDArray[np.float64]  # [n]
    expected: NDArray[np.float64]  # [n]
    fault: Span | None
    opened: float  # hours


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one group: as multiples of each series' threshold, and as levels."""

    title: str
    ratio: NDArray[np.float64]  # of every window
    normal: NDArray[np.float64]  # levels of windows without a fault
    faulty: NDArray[np.float64]  # levels of windows that hold a part of one
    threshold: float  # level


def strips(path: Path, title: str, parts: Sequence[Strip]) -> None:
    """Series as strip charts with true faults shaded, episodes marked, and the level beneath."""
    heights = [ratio for part in parts for ratio in (1.0 + 0.35 * len(part.features), 0.9)]
    figure = Figure(figsize=(13, 1.0 + 0.95 * sum(heights)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=13, color=INK)
    axes = figure.subplots(
        2 * len(parts), 1, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for part, above, below in zip(parts, axes[::2], axes[1::2], strict=True):
        _values(above, part)
        _level(below, part)
    axes[-1].set_xlabel("hours since detection began")
    figure.legend(
        handles=[
            Patch(facecolor=ORANGE, alpha=0.35, label="true fault"),
            Line2D([], [], color=BLUE, lw=6, label="episode, found a fault"),
            Line2D([], [], color=RED, lw=6, label="episode, false"),
            Line2D([], [], color=INK, lw=1, label="level"),
            Line2D([], [], color=INK, lw=1.2, ls="--", label="threshold"),
        ],
        loc="outside lower center",
        ncols=5,
        frameon=False,
    )
    figure.savefig(path)


def _values(ax: Axes, part: Strip) -> None:
    center = np.median(part.values, axis=0)
    spread = np.maximum(part.values.std(axis=0), 1e-12)
    normal = np.clip((part.values - center) / spread, -3.5, 3.5)
    places = STRIDE * np.arange(len(part.features))[::-1]
    for column, place in enumerate(places):
        ax.plot(part.hours, normal[:, column] + place, color=INK, lw=0.55)
    low, high = places[-1] - 3.6, places[0] + 3.6
    _shade(ax, part.faults)
    for span in part.episodes:
        color = BLUE if span.good else RED
        wide = max(span.end - span.start, 0.004 * np.ptp(part.hours))
        ax.broken_barh([(span.start, wide)], (low - 1.5, 1.2), color=color)
    for span in part.faults:
        ax.annotate(
            span.text.replace("_", " "),
            (span.start, high),
            xytext=(0, 1),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
            ha="left",
            va="bottom",
        )
    ax.set_ylim(low - 1.8, high)
    ax.set_yticks(places, [textwrap.fill(name.replace("_", " "), 12) for name in part.features])
    ax.tick_params(axis="y", length=0, labelsize=8.5)
    ax.tick_params(axis="x", labelbottom=False)
    ax.set_xlim(part.hours[0], part.hours[-1])
    ax.set_title(part.title, loc="left", fontsize=10.5, color=INK, pad=14, fontweight="bold")
    plain(ax)


def _level(ax: Axes, part: Strip) -> None:
    top = 2.5 * part.threshold
    ax.plot(part.hours, np.minimum(part.level, top), color=INK, lw=0.7)
    ax.axhline(part.threshold, color=INK, lw=1.2, ls="--")
    _shade(ax, part.faults)
    ax.set_ylim(0, 1.05 * top)
    ax.yaxis.set_major_locator(ticker.MaxNLocator(3, integer=True))
    ax.set_ylabel("level", fontsize=8.5)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlim(part.hours[0], part.hours[-1])
    plain(ax)


def comparisons(path: Path, title: str, parts: Sequence[Comparison], columns: int = 2) -> None:
    """Observed against expected around a few episodes, in the feature's own unit."""
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(13, 0.9 + 2.7 * rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=13, color=INK)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for part, ax in zip(parts, axes, strict=False):
        if part.fault is not None:
            _shade(ax, [part.fault])
        ax.plot(part.hours, part.expected, color=SKY, lw=2.2, zorder=2)
        ax.plot(part.hours, part.observed, color=INK, lw=1.0, zorder=3)
        ax.axvline(part.opened, color=RED, lw=1.4, ls=":", zorder=4)
        ax.set_title(part.title, loc="left", fontsize=9.5, color=INK)
        ax.set_ylabel(part.feature.replace("_", " "), fontsize=9)
        ax.yaxis.set_major_formatter(ticker.FuncFormatter(_quantity))
        ax.set_xlim(part.hours[0], part.hours[-1])
        ax.margins(y=0.08)
        ax.tick_params(labelsize=8)
        plain(ax)
    for ax in axes[len(parts) :]:
        ax.set_axis_off()
    for ax in axes[max(0, len(parts) - columns) : len(parts)]:
        ax.set_xlabel("hours since detection began", fontsize=9)
    figure.legend(
        handles=[
            Line2D([], [], color=INK, lw=1.2, label="observed"),
            Line2D([], [], color=SKY, lw=2.4, label="expected by the model"),
            Patch(facecolor=ORANGE, alpha=0.35, label="true fault"),
            Line2D([], [], color=RED, lw=1.6, ls=":", label="episode opened"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    figure.savefig(path)


def histograms(path: Path, title: str, parts: Sequence[Scores]) -> None:
    """Above: every window's score on log axes, threshold at 1. Below: levels by the truth."""
    figure = Figure(figsize=(13, 7.2), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=13, color=INK)
    axes = figure.subplots(2, len(parts), squeeze=False, sharey=True, sharex="row")
    everything = np.concatenate([part.ratio for part in parts])
    everything = everything[everything > 0]
    low, high = np.log10(np.quantile(everything, 0.0005)), np.log10(everything.max())
    bins = np.logspace(np.floor(2 * low) / 2, max(0.5, np.ceil(2 * high) / 2), 70)
    for part, above, below in zip(parts, *axes, strict=True):
        above.hist(np.clip(part.ratio, bins[0], bins[-1]), bins=bins, color=GREY)
        above.axvline(1.0, color=INK, lw=1.4, ls="--")
        above.set_xscale("log")
        above.set_title(part.title, loc="left", fontsize=10.5, color=INK, fontweight="bold")
        above.set_xlabel("score / score at the series' threshold", fontsize=9)
        top = 3.0 * part.threshold
        steps = np.linspace(0, top, 60)
        below.hist(np.minimum(part.normal, top), bins=steps, color=BLUE, alpha=0.7)
        below.hist(np.minimum(part.faulty, top), bins=steps, histtype="step", color=RED, lw=1.8)
        below.axvline(part.threshold, color=INK, lw=1.4, ls="--")
        false, found = (
            np.mean(levels >= part.threshold) if len(levels) else 0.0
            for levels in (part.normal, part.faulty)
        )
        below.set_title(
            f"above the threshold: {false:.2%} of normal windows,\n"
            f"{found:.0%} of windows with a fault in them",
            loc="left", fontsize=9, color=INK,
        )  # fmt: skip
        below.set_xlabel(f"level = -log10(tail probability), cut at {top:.0f}", fontsize=9)
        for ax in (above, below):
            ax.set_yscale("log")
            ax.set_ylim(bottom=0.7)
            ax.tick_params(labelsize=8.5)
            plain(ax)
    for ax in axes[:, 0]:
        ax.set_ylabel("windows", fontsize=9)
    figure.legend(
        handles=[
            Patch(facecolor=GREY, label="all windows"),
            Patch(facecolor=BLUE, alpha=0.7, label="normal windows"),
            Patch(facecolor="none", edgecolor=RED, lw=1.8, label="windows with a fault in them"),
            Line2D([], [], color=INK, lw=1.4, ls="--", label="threshold"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    figure.savefig(path)


@dataclass(frozen=True, slots=True)
class Track:
    """A stretch of one series for a report: time as samples or as datetime64."""

    at: NDArray[Any]  # [n]
    unit: str  # of `at`
    features: Sequence[str]  # those to draw
    observed: NDArray[np.floating]  # [n, f]
    expected: NDArray[np.floating] | None  # [n, f] NaN where there is none
    level: NDArray[np.floating]  # [n] NaN before the first window
    threshold: NDArray[np.floating]  # [n]
    truth: Sequence[tuple[Any, Any]]  # first and last of each true anomaly, like `at`
    episodes: Sequence[tuple[Any, Any, bool]]  # the same of episodes; true: answers an anomaly


def track(part: Track) -> bytes:
    """Values above, level beneath; truth shaded, episodes as bars between them. SVG."""
    rows = len(part.features)
    figure = Figure(figsize=(9, 0.9 + 1.15 * rows + 1.2), layout="constrained")
    ratios = [1.15] * rows + [1.1]
    axes = figure.subplots(rows + 1, 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    least = 0.002 * (part.at[-1] - part.at[0])
    for column, (name, ax) in enumerate(zip(part.features, axes, strict=False)):
        if part.expected is not None:  # coarse scales have one only every few samples
            there = np.isfinite(part.expected[:, column])
            ax.plot(part.at[there], part.expected[there, column], color=SKY, lw=2.2)
        ax.plot(part.at, part.observed[:, column], color=INK, lw=0.8)
        ax.set_ylabel(textwrap.fill(name, 18), fontsize=8.5)
        ax.yaxis.set_major_formatter(ticker.FuncFormatter(_quantity))
    level, threshold = np.asarray(part.level, np.float64), np.asarray(part.threshold, np.float64)
    usual = float(np.nanmedian(threshold)) if np.isfinite(threshold).any() else 1.0
    top = max(2.5 * usual, 1.0)
    axes[-1].plot(part.at, np.minimum(level, top), color=INK, lw=0.8)
    axes[-1].plot(part.at, threshold, color=INK, lw=1.2, ls="--")
    axes[-1].set_ylim(0, 1.25 * top)
    axes[-1].set_ylabel("level", fontsize=9)
    for first, last, good in part.episodes:
        bar = [(first, max(last - first, least))]
        axes[-1].broken_barh(bar, (1.08 * top, 0.12 * top), color=BLUE if good else RED, zorder=4)
    for ax in axes:
        for first, last in part.truth:
            ax.axvspan(first, max(last, first + least), color=ORANGE, alpha=0.35, lw=0)
        ax.tick_params(labelsize=8.5)
        plain(ax)
    axes[-1].set_xlim(part.at[0], part.at[-1])
    axes[-1].set_xlabel(part.unit, fontsize=9)
    handles: list[Any] = [Line2D([], [], color=INK, lw=1.2, label="observed; level")]
    if part.expected is not None:
        handles.append(Line2D([], [], color=SKY, lw=2.4, label="expected"))
    handles += [
        Line2D([], [], color=INK, lw=1.2, ls="--", label="threshold"),
        Patch(facecolor=ORANGE, alpha=0.35, label="true anomaly"),
        Patch(facecolor=BLUE, label="episode, true"),
        Patch(facecolor=RED, label="episode, false"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=6, frameon=False, fontsize=8)
    return svg(figure)


def classes(parts: Mapping[str, NDArray[np.floating]], label: str, threshold: float) -> bytes:
    """Densities of one value by class on a log axis, with the threshold. SVG."""
    figure = Figure(figsize=(6.4, 3.1), layout="constrained")
    ax = figure.subplots()
    top = 3.0 * threshold
    bins = np.linspace(0, top, 70)
    for (name, values), color in zip(parts.items(), (BLUE, RED, GREY), strict=False):
        if len(values):
            heights = np.histogram(np.clip(values, 0, top), bins)[0] / len(values)
            ax.stairs(heights, bins, color=color, lw=1.6, label=f"{name} ({len(values):,})")
    ax.axvline(threshold, color=INK, lw=1.4, ls="--", label="threshold")
    ax.set_yscale("log")
    ax.set_xlabel(f"{label}, cut at {top:g}", fontsize=9)
    ax.set_ylabel("share of samples", fontsize=9)
    ax.legend(frameon=False, fontsize=8.5)
    ax.tick_params(labelsize=8.5)
    plain(ax)
    return svg(figure)


def curve(
    x: Sequence[float],
    y: Sequence[float],
    labels: tuple[str, str],
    point: tuple[float, float],
    chance: tuple[Sequence[float], Sequence[float]],
) -> bytes:
    """One curve in the unit square, where the product's threshold lies, and pure chance. SVG."""
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    ax = figure.subplots()
    ax.plot(*chance, color=GREY, lw=1, ls=":", label="chance")
    ax.plot(x, y, color=BLUE, lw=1.8, label="all thresholds", drawstyle="steps-post")
    ax.plot(*point, "o", color=RED, ms=7, label="the threshold in use")
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel(labels[0], fontsize=9)
    ax.set_ylabel(labels[1], fontsize=9)
    ax.legend(frameon=False, fontsize=8.5, loc="best")
    ax.tick_params(labelsize=8.5)
    plain(ax)
    return svg(figure)


def losses(history: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Training and validation loss of each pass, one chart a scale. SVG."""
    figure = Figure(figsize=(4.2 * max(1, len(history)), 3.1), layout="constrained")
    axes = figure.subplots(1, len(history), squeeze=False)[0]
    for (scale, lines), ax in zip(history.items(), axes, strict=True):
        for (name, values), color in zip(lines.items(), (BLUE, RED, GREY), strict=False):
            ax.plot(np.arange(1, len(values) + 1), values, color=color, lw=1.6, label=name)
        ax.set_title(f"scale {scale}", loc="left", fontsize=9.5, color=INK)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(ticker.FuncFormatter(_quantity))
        ax.yaxis.set_minor_formatter(ticker.NullFormatter())
        ax.set_xlabel("pass over the training windows", fontsize=9)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        ax.legend(frameon=False, fontsize=8.5)
        ax.tick_params(labelsize=8.5)
        plain(ax)
    return svg(figure)


def svg(figure: Figure) -> bytes:
    """Equal figures give equal bytes."""
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "report"}):  # this and no date: equal data, equal files
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _shade(ax: Axes, faults: Sequence[Span]) -> None:
    left, right = ax.get_xlim() if not faults else (faults[0].start, faults[-1].end)
    least = 0.002 * (right - left)
    for span in faults:
        ax.axvspan(span.start, max(span.end, span.start + least), color=ORANGE, alpha=0.35, lw=0)


def _quantity(value: float, _: Any) -> str:
    """4.2e5 -> 420k: short, in the unit of the feature."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * factor:
            return f"{value / factor:.5g}{suffix}"
    return f"{value:.5g}"


def plain(ax: Axes) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GREY)
    ax.tick_params(color=GREY, labelcolor=INK)
