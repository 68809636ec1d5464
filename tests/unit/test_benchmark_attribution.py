"""The suite `attribution`: what is put in, and how blame is ranked."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from tests.unit.benchmark_cases import MINUTE, says
from trainer.benchmarks.attribution import APART, CALM, Attribution, injected
from trainer.benchmarks.cases import Case
from trainer.config import TrainerConfig


def case(features: int = 5) -> Case:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, features))
    values[:, 1] = 2.0  # never varies
    label = [(1800, 1850)]
    names = [f"f{at}" for at in range(features)]
    return Case("m", names, MINUTE * np.arange(3000), values, 1000, label)


def test_one_varying_feature_is_altered_at_a_time_and_never_near_a_label() -> None:
    before = case()
    after = injected(before, np.random.default_rng(0))
    changed = after.values != before.values
    assert not changed[:1000].any()
    assert len(after.extra) > 5
    for one in after.extra:
        rows = slice(1000 + one.first, 1000 + one.last + 1)
        assert np.flatnonzero(changed[rows].any(axis=0)).tolist() == [one.feature]
        assert one.feature != 1
        changed[rows] = False
        assert not 800 - CALM <= one.first <= 850 + CALM
    assert not changed.any()
    starts = [one.first for one in after.extra]
    assert min(np.diff(starts)) >= APART


def test_blame_is_ranked_at_the_highest_score_of_the_anomaly() -> None:
    suite, one = Attribution(), injected(case(), np.random.default_rng(0))
    first, second = one.extra[:2]
    score = np.zeros(one.tested)
    score[first.last] = score[second.first] = 9.0
    blame = np.full((one.tested, 5), 0.2)
    blame[first.last] = np.eye(5)[first.feature]
    blame[second.first] = 1 - 0.1 * np.eye(5)[second.feature]  # everything else comes before it
    answer = says(score, 5.0)
    answer = type(answer)(
        **{name: getattr(answer, name) for name in answer.__dataclass_fields__}
        | {"contribution": blame.astype(np.float32)}
    )
    found = suite.judge(one, answer).body
    assert found["detected"] == found["first_detected"] * 2 == 2
    total = suite.total([suite.judge(one, answer), suite.judge(one, None)])
    assert total["first_detected"] == total["top3_detected"] == pytest.approx(0.5)
    assert total["detected"] == pytest.approx(2 / (2 * len(one.extra)))
    low, high = suite.intervals([suite.judge(one, answer)])["first_detected"]
    assert low < 0.5 < high


def test_an_operating_point_replaces_the_threshold_and_nothing_else() -> None:
    config = Attribution.operating.of(TrainerConfig())
    assert config.calibration.threshold == Attribution.operating.threshold
    blank = structs.replace(config.calibration, threshold=None)
    assert structs.replace(config, calibration=blank) == TrainerConfig()
