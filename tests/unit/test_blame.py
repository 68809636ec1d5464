"""Which features are to blame, on streams of which one knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.blame import BLOCK, MEMORY
from stream_detector.core.engine import Engine
from stream_detector.core.policy import Policy
from stream_detector.records import Partition
from tests.fakes import Shares, batch, model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.ports import Model

FEATURES = ("a", "b", "c")
LONG = 3 * MEMORY
STEP = 60_000


def engine(version: str = "v1") -> Engine:
    made = Engine("test", Policy(level=6.0, flatline_after=None), detailed=True)
    made.serve("g", served(version))
    return made


def served(version: str) -> Model:
    return model(FEATURES, known={"s": (0.0, 1.0)}, version=version, scorer=Shares())


def values(rows: int, drift: float, seed: int = 0) -> NDArray[np.float64]:
    found = np.random.default_rng(seed).normal(size=(rows, len(FEATURES)))
    found[:, 0] += drift
    return found


def blame(made: Engine, given: NDArray[np.float64], start: int = 0) -> NDArray[np.float64]:
    """[n, F] in every sample; NaN before the first window."""
    times = (start + np.arange(len(given))) * STEP
    (detail,) = made.process([batch(["s"] * len(given), times, given)]).details
    return detail.contribution


def test_a_feature_that_is_off_at_all_times_is_not_blamed_for_what_another_does() -> None:
    given = values(LONG, drift=5.0)
    given[-1] = (5.0, 4.0, 0.0)
    given[70] = (5.0, 4.0, 0.0)  # before its usual part is known
    found = blame(engine(), given)
    assert found[70].argmax() == 0
    assert found[-1].argmax() == 1
    assert found[-1, 1] > 0.7
    np.testing.assert_allclose(found[60:].sum(axis=1), 1.0, rtol=1e-5)
    assert (found[60:] >= 0).all()


def test_what_an_episode_is_about_does_not_become_usual_however_long_it_is() -> None:
    made = engine()
    given = np.concatenate([values(LONG, 0.0), values(LONG, 40.0, seed=1)])
    found = blame(made, given)
    assert (found[LONG:].argmax(axis=1) == 0).all()
    assert found[-1, 0] > 0.9


def test_where_nothing_exceeds_the_usual_the_shares_are_those_of_the_score() -> None:
    given = np.tile([[0.3, 0.2, 0.1]], (LONG, 1))
    given[-1] *= 0.5
    found = blame(engine(), given)
    np.testing.assert_allclose(found[-1], np.array([9.0, 4.0, 1.0]) / 14, rtol=1e-5)


def test_another_model_learns_anew_what_is_usual() -> None:
    made, given = engine(), values(LONG, drift=5.0)
    blame(made, given)
    odd = np.array([[5.0, 4.0, 0.0]])
    assert blame(made, odd, LONG).argmax() == 1
    assert made.serve("g", served("v2")) == "swapped"
    assert blame(made, odd, LONG + 1).argmax() == 0


@pytest.mark.parametrize("rows", [60 + BLOCK - 2, 60 + BLOCK - 1])
def test_usual_parts_are_learnt_after_whole_blocks(rows: int) -> None:
    made = engine()
    blame(made, np.tile([[0.3, 0.2, 0.1]], (rows, 1)))
    slab = made._slabs["g", Partition("t", 0)]  # the state itself is the subject
    assert slab.blame_count[0, 0] == (rows - 59) % BLOCK
    assert slab.blame_known[0, 0] == (rows - 59) // BLOCK * BLOCK
    expected = np.array([9.0, 4.0, 1.0]) / 14 * slab.score[0]
    np.testing.assert_allclose(slab.blame[0, 0], expected if rows - 59 >= BLOCK else 0.0, rtol=1e-5)
