"""The births recipe from end to end, on small generated files of the kinds that it is for."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.pipeline.recipe_case import cheaper, opened
from trainer.recipes.correlated_channels import NAMES, Plant, spoilt

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

QUICK = {"device": "cpu", "threads": 1}


FIRST = dt.date(1959, 1, 1)


def days(path: Path, values: NDArray[np.int64], start: int = 0) -> Path:
    """As the public series has them, from one day of 1959 on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dated = enumerate(values[start:].tolist(), start)
    rows = [f'"{FIRST + dt.timedelta(days=n)}",{value}' for n, value in dated]
    path.write_text("\n".join(['"Date","Births"', *rows]) + "\n")
    return path


def test_the_births_recipe_tells_an_abnormal_day_the_day_it_comes(tmp_path: Path) -> None:
    values = np.random.default_rng(1).poisson(np.linspace(40, 46, 365))
    changes: dict[str, dict[str, Any]] = {
        "fit": QUICK | {"epochs": 3},
        "model": {"options": {"layers": 2, "hidden": 8, "embedding": 8}},
    }
    config = cheaper("births_stacked_autoencoder", tmp_path, changes)
    learn = days(tmp_path / "learn" / "births.csv", values[:200])
    live = values[:240].copy()
    live[230] = -20
    (event,) = opened(config, learn, days(tmp_path / "live" / "births.csv", live, 150), tmp_path)
    begin = FIRST + dt.timedelta(days=230)
    assert event["window_end"] == event["started_at"]
    assert dt.timedelta(milliseconds=event["started_at"]) == begin - dt.date(1970, 1, 1)
    assert event["observed"]["Births"] == -20
    assert 35 < event["expected"]["Births"] < 50


def test_the_recipe_of_eleven_channels_tells_a_row_whose_channels_do_not_belong_together(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(3)
    normal, _ = Plant(rng).rows(rng, 4000)
    live = normal[3000:].copy()
    live[500] = spoilt(rng, normal, 3500, "mixture")
    table = {}
    for name, values in (("learn", normal[:3000]), ("live", live)):
        table[name] = tmp_path / name / "plant.csv"
        table[name].parent.mkdir()
        np.savetxt(table[name], values, "%.9g", delimiter=",", header=",".join(NAMES), comments="")
    config = cheaper(
        "births_stacked_autoencoder_eleven",
        tmp_path,
        {"fit": QUICK | {"epochs": 2}, "calibration": {"threshold": {"maximum": 1.2}}},
    )
    (event,) = opened(config, table["learn"], table["live"], tmp_path)
    assert event["observed"][NAMES[0]] == pytest.approx(live[500, 0])
    changed = {NAMES[at] for at in np.flatnonzero(live[500] != normal[3500])}
    worst = sorted(event["contribution"], key=event["contribution"].__getitem__)[-2:]
    assert set(worst) <= changed
