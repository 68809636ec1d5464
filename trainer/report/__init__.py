"""The report of an evaluation: one HTML file that needs nothing else, made from saved scores.

It is written for an engineer with a minute: what came out first, then the moments, then all else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.report import facts, moments, page, quality

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.scored import Scored

__all__ = ["render", "write_report"]


def write_report(path: Path, scores: Scored, body: dict[str, Any]) -> None:
    """Write the HTML file. `body` is what `assess` says of the scores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(scores, body), encoding="utf-8")


def render(scores: Scored, body: dict[str, Any]) -> str:
    """The whole page; a section that the data does not allow says why in a sentence."""
    sections = [
        facts.summary(scores, body),
        moments.overview(scores),
        moments.closeups(scores),
        quality.table(body, scores.about.bundle.get("scales", [])),
        quality.confusion(body),
        quality.curves(scores, body),
        quality.distributions(scores, body),
        quality.magnitudes(body),
        facts.training(scores),
        facts.configuration(scores, body),
    ]
    return page.document(f"Evaluation of {scores.about.version}", sections)
