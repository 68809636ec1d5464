"""Realised over promised, one line a case, one mark a budget; SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import ticker
from matplotlib.figure import Figure

from trainer.report.pictures import BLUE, GREY, ORANGE, RED, plain, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST, MOST = 0.1, 10.0
"""Ratios beyond are drawn at the edge."""
APART = 0.22
"""Between the marks of one line; lines are 1 apart."""
LOOKS = ((BLUE, "o"), (ORANGE, "s"), (RED, "D"))


def ratios(cells: Sequence[dict[str, Any]]) -> bytes:
    """Intervals of 95% on a logarithmic axis; thick grey: the band that a budget should keep."""
    names = list(dict.fromkeys((one["case"], one["start"]) for one in cells))
    budgets = list(dict.fromkeys(one["name"] for one in cells))
    figure = Figure(figsize=(7.4, 1.2 + 0.62 * len(names)), layout="constrained")
    ax = figure.subplots()
    ax.axvline(1, color=GREY, lw=1, ls=":")
    for one in cells:
        place = budgets.index(one["name"])
        y = names.index((one["case"], one["start"])) + APART * (place - (len(budgets) - 1) / 2)
        color, marker = LOOKS[place % len(LOOKS)]
        ax.plot(one["band"], [y, y], color=GREY, lw=6, alpha=0.3, solid_capstyle="butt")
        ax.plot([_shown(bound) for bound in one["interval"]], [y, y], color=color, lw=1.4)
        label = one["name"] if (one["case"], one["start"]) == names[0] else None
        ax.plot(_shown(one["ratio"]), y, marker, color=color, ms=5, label=label)
    ax.set_xscale("log")
    ax.set_xlim(LEAST, MOST)
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    ax.set_yticks(range(len(names)), [f"{case}, {start}" for case, start in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("realised / promised episodes", fontsize=9)
    ax.tick_params(labelsize=8.5)
    figure.legend(frameon=False, fontsize=8.5, loc="outside upper right", ncols=len(budgets))
    plain(ax)
    return svg(figure)


def _shown(ratio: float) -> float:
    return min(max(ratio, LEAST), MOST)
