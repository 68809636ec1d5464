"""A restart replays with the models that served, and says where that can't be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream_detector.formats import checkpoint
from tests.fakes import model
from tests.pipeline.loop_case import GROUP_ID, KNOWN
from tests.pipeline.restart_case import (
    HALFWAY,
    PARTITIONS,
    Fleet,
    Library,
    halfway,
    ids,
    outcomes,
    state,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.ports import Model


class Feed:
    """ports.ModelFeed that hands a model over at a turn."""

    def __init__(self, turn: int, new: Model) -> None:
        self._turn = turn
        self._new = new

    def take(self) -> Mapping[str, Model]:
        self._turn -= 1
        return {"g": self._new} if self._turn == 0 else {}

    def close(self) -> None: ...


def second() -> Model:
    return model(known=KNOWN, version="v2", level=2.5, location=0.2)


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_replay_uses_the_models_that_served_and_swaps_them_where_they_were_swapped(
    snapshots: bool,  # noqa: FBT001  # pytest hands in by name
) -> None:
    whole = Fleet()
    whole.feed()
    expected = whole.worker(feed=Feed(15, second()), snapshots=False)
    expected.run()

    fleet = Fleet()
    fleet.feed()
    assert fleet.die(HALFWAY, feed=Feed(15, second()), snapshots=snapshots, every=0.5)
    library = Library(model(known=KNOWN))
    case = fleet.worker(served=second(), library=library, snapshots=snapshots, every=0.5)
    case.run()
    assert outcomes(case) == ["exact", "exact"]
    assert set(library.asked) == {"v1"}
    assert set(ids(case)) == set(ids(expected))
    assert state(case) == state(expected)


def test_a_model_that_is_new_at_a_restart_takes_over_at_the_commit() -> None:
    fleet = halfway()
    case = fleet.worker(served=second(), library=Library(model(known=KNOWN)))
    at = fleet.broker.committed(GROUP_ID)[PARTITIONS[0]].offset
    case.run()
    assert outcomes(case) == ["exact", "exact"]
    saved = checkpoint.decode(fleet.broker.committed(GROUP_ID)[PARTITIONS[0]].metadata)
    assert saved is not None
    assert saved.models["g"] == [(at, "v2")]


def test_a_version_that_is_gone_is_replaced_by_the_current_one_and_that_is_said() -> None:
    fleet = halfway()
    case = fleet.worker(served=second(), library=Library())
    case.run()
    assert outcomes(case) == ["partial", "partial"]
    again = fleet.worker(served=second(), library=Library())
    again.run()
    assert outcomes(again) == ["exact", "exact"]
    assert state(again) == state(case)


def test_a_model_of_another_layout_begins_anew_and_that_is_said() -> None:
    fleet = halfway()
    other = model(known=KNOWN, version="v3", scales=(1, 4))
    case = fleet.worker(served=other, library=Library(model(known=KNOWN)))
    case.run()
    assert outcomes(case) == ["partial", "partial"]
    assert case.telemetry.outcomes["accepted"] > 500
