"""Snapshots are due before a restart would take too long to read records again."""

from __future__ import annotations

import pytest

from stream_detector.core.cadence import FETCH, MEMORY, REST, Cadence


def test_the_partition_that_is_most_behind_is_due_once_all_would_take_half_the_target() -> None:
    cadence = Cadence(target=2.0)
    cadence.worked(1000, 1000 * (1e-3 - FETCH))  # a millisecond each
    assert cadence.due({"a": 300, "b": 700}, now=0.0) is None
    assert cadence.due({"a": 300, "b": 701}, now=0.0) == "b"


def test_nothing_is_due_while_nobody_knows_how_long_a_record_takes() -> None:
    assert Cadence(target=1e-9).due({"a": 10**9}, now=0.0) is None


def test_the_writer_rests_longer_than_it_wrote() -> None:
    cadence = Cadence(target=1e-9)
    cadence.worked(1, 1.0)
    cadence.wrote(began=10.0, ended=12.0)
    assert cadence.due({"a": 1}, now=12.0 + 2.0 * REST - 0.01) is None
    assert cadence.due({"a": 1}, now=12.0 + 2.0 * REST) == "a"


def test_what_a_record_takes_follows_the_newest_ones() -> None:
    cadence = Cadence(target=1.0)
    cadence.worked(MEMORY, MEMORY * 1e-3)
    assert cadence.replay(1000) == pytest.approx(1 + 1000 * FETCH)
    for _ in range(60):
        cadence.worked(MEMORY // 10, MEMORY // 10 * 2e-3)
    assert cadence.replay(1000) == pytest.approx(2 + 1000 * FETCH, rel=0.01)
