"""Resampling: the same steps wherever it is cut, the same windows in trainer and detector."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.bundle import Transform
from stream_detector.core.engine import Engine
from stream_detector.core.policy import Policy
from stream_detector.core.resample import Buckets, resample
from stream_detector.core.segments import Segments
from stream_detector.core.transforms import transformed
from tests.fakes import NumpyScorer, batch, cut, model
from trainer.preprocess import stream_windows
from trainer.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stream_detector.ports import Scores

HOW: dict[str, Callable[[list[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "last": lambda values: values[-1],
    "max": max,
    "min": min,
    "sum": sum,
}
rules = st.builds(
    Transform,
    kind=st.just("resample"),
    every=st.sampled_from([1, 700, 1000, 2500]),
    how=st.sampled_from(sorted(HOW)),
    fill=st.integers(0, 4),
)
pauses = st.lists(st.integers(1, 400) | st.integers(400, 9000), min_size=1, max_size=60)
cuts = st.lists(st.integers(1, 60), max_size=6)


def by_hand(
    rule: Transform, times: Sequence[int], values: Sequence[float]
) -> list[tuple[int, float, bool]]:
    """Time, value, and whether a hole follows, one sample after the other."""
    steps: list[tuple[int, float, bool]] = []
    number, members = None, [0.0]
    for time, value in zip(times, values, strict=True):
        if number is None or time // rule.every == number:
            members = [*members, value] if number is not None else [value]
            number = time // rule.every
            continue
        empty = time // rule.every - number - 1
        hole = empty > rule.fill
        value_of_it = HOW[rule.how](members)
        ends = range(number + 1, number + 2 + (0 if hole else empty))
        steps += [(end * rule.every, value_of_it, hole) for end in ends]
        number, members = time // rule.every, [value]
    return steps


@given(rule=rules, pauses=pauses, seed=st.integers(0, 2**32), at=cuts)
def test_steps_are_those_of_a_plain_loop_wherever_the_samples_are_cut(
    rule: Transform, pauses: list[int], seed: int, at: list[int]
) -> None:
    times = np.cumsum(pauses)
    values = np.random.default_rng(seed).normal(size=(len(times), 1))
    buckets = Buckets.none(1, 1)
    found: list[tuple[int, float, bool]] = []
    for a, b in pairwise([0, *sorted({one for one in at if one < len(times)}), len(times)]):
        segments = Segments(np.zeros(b - a, np.int64))
        steps = resample(rule, buckets, segments, times[a:b], values[a:b])
        assert (steps.time <= times[a:b][steps.sample]).all()
        columns = steps.time.tolist(), steps.values[:, 0].tolist(), steps.last.tolist()
        found += list(zip(*columns, strict=True))
    assert found == by_hand(rule, times.tolist(), values[:, 0].tolist())


class Recorder(NumpyScorer):
    """Keeps every window that it scores."""

    rungs = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.windows: dict[int, list[NDArray[np.float32]]] = {}

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        self.windows.setdefault(scale, []).append(windows[0].copy())
        return super().score(scale, windows, center, spread)


@settings(max_examples=25, deadline=None)
@given(
    rule=rules,
    then=st.sampled_from(
        [
            (),
            (Transform(kind="rate"),),
            (Transform(kind="difference"), Transform(kind="trailing_mean", n=4)),
        ]
    ),
    scales=st.sampled_from([(1,), (1, 3)]),
    seed=st.integers(0, 2**32),
    at=st.lists(st.integers(1, 900), max_size=40),
)
def test_the_trainer_learns_on_the_very_windows_that_the_detector_scores(
    rule: Transform,
    then: tuple[Transform, ...],
    scales: tuple[int, ...],
    seed: int,
    at: list[int],
) -> None:
    rng = np.random.default_rng(seed)
    n = 900
    steps = rng.integers(1, rule.every + 1, n)
    steps[rng.random(n) < 0.05] += 2 * rule.every
    steps[rng.random(n) < 2 / n] += 50 * rule.every  # a hole, whatever is filled
    times, values = np.cumsum(steps), rng.normal(size=(n, 2))
    chain = (rule, *then)

    recorder = Recorder()
    engine = Engine("test", Policy(max_clock_step=10**9))
    engine.serve(
        "g", model(["a", "b"], scales, known={"s": (0.0, 1.0)}, transforms=chain, scorer=recorder)
    )
    for piece in cut(batch(["s"] * n, times, values), [one for one in at if one < n]):
        engine.process([piece])

    learnt = transformed(chain, values, times)
    edges = [0, *learnt.breaks.tolist(), len(learnt.values)]
    parts = [Run(0, a, learnt.values[a:b], learnt.timestamp[a:b]) for a, b in pairwise(edges)]
    assert sum(map(len, parts)) >= n / 4
    for scale in scales:
        expected = np.concatenate([stream_windows(run, scale, np.zeros(2))[0] for run in parts])
        found = recorder.windows.get(scale, [])
        assert len(found) == len(expected)
        if found and scale == 1:
            np.testing.assert_array_equal(np.stack(found), expected)
        elif found:  # the detector's means are of values that were float32 already
            tiny = 1e-6 * float(abs(expected).max())
            np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=tiny)
