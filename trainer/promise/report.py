"""The HTML file of `promise --report`: a picture, two tables, and how it was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.promise import table
from trainer.promise.anomalies import ANOMALIES
from trainer.promise.cases import CASES
from trainer.promise.picture import ratios
from trainer.report import page

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Is the alarm budget kept?"
HOW = (
    "Series are simulated at 1-minute steps with nothing wrong in them. A bundle is trained on 7 "
    "days, then every sample goes through the detector's engine, once for each budget; all opened "
    "episodes count, of whatever kind. Of `step`, the first episode of each kind within a day "
    "behind the change of level is excepted."
)


def write(path: Path, body: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(body), encoding="utf-8")


def render(body: dict[str, Any]) -> str:
    first = page.paragraph(table.summary(body), "lead") + page.paragraph(HOW)
    first += page.paragraph(f"{body['method']}.", "note")
    sections = [page.Section("summary", TITLE, first)]
    if body["cases"]:
        alt = "Realised over promised episodes of every case at three budgets; the table has them."
        html = page.figure(ratios(body["cases"]), alt, "Grey: the band to keep.", wide=True)
        html += page.table(
            "Episodes where nothing is wrong", table.CASES_HEAD, table.case_rows(body)
        )
        sections.append(page.Section("cases", "Realised and promised", html))
    if body["found"]:
        html = page.table(
            "Anomalies put into `season`, twice a series", table.FOUND_HEAD, table.found_rows(body)
        )
        html += page.paragraph(
            "Sizes are in marginal standard deviations of the noise. Oracle: one static threshold "
            "of the promised rate on the same scores.",
            "note",
        )
        sections.append(page.Section("found", "What is found", html))
    about = [[one.name, one.about] for one in CASES.values()]
    about += [[one.name, one.about] for one in ANOMALIES.values()]
    html = page.table("Cases and anomalies", ["name", "what it is"], about)
    sections.append(page.Section("about", "What is simulated", html))
    return page.document(TITLE, sections)
