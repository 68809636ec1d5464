"""Acknowledgements become few commits, one at a time, and none is forgotten."""

from __future__ import annotations

from stream_detector.adapters.kafka.commits import Commits
from stream_detector.ports import Position
from stream_detector.records import Partition

A, B = Partition("t", 0), Partition("t", 1)


def test_acknowledgements_within_the_interval_become_one_commit() -> None:
    commits = Commits(10)
    commits.note({A: Position(1)})
    assert commits.due(0) == {A: Position(1)}
    commits.finished(success=True)
    for offset in range(2, 50):
        commits.note({A: Position(offset)})
        assert commits.due(9.9) == {}
    commits.note({B: Position(7, "note")})
    assert commits.due(10) == {A: Position(49), B: Position(7, "note")}


def test_only_one_commit_is_under_way() -> None:
    commits = Commits(0)
    commits.note({A: Position(1)})
    assert commits.due(0)
    commits.note({A: Position(2)})
    assert commits.due(100) == {}
    commits.finished(success=True)
    assert commits.due(100) == {A: Position(2)}


def test_a_failed_commit_is_tried_again_with_the_newest_positions() -> None:
    commits = Commits(1)
    commits.note({A: Position(1), B: Position(1)})
    commits.due(0)
    commits.note({A: Position(2)})
    commits.finished(success=False)
    assert commits.due(0.5) == {}
    assert commits.due(1) == {A: Position(2), B: Position(1)}


def test_what_is_committed_already_is_not_committed_again() -> None:
    commits = Commits(0)
    commits.note({A: Position(1)})
    commits.due(0)
    commits.finished(success=True)
    commits.note({A: Position(1)})
    assert commits.due(1) == {}
    assert commits.rest() == {}


def test_a_partition_given_up_hands_out_its_newest_position_even_from_a_commit_under_way() -> None:
    commits = Commits(0)
    commits.note({A: Position(1), B: Position(1)})
    commits.due(0)
    commits.note({A: Position(2)})
    assert commits.rest() == {A: Position(2), B: Position(1)}
    assert commits.forget([A, B]) == {A: Position(2), B: Position(1)}
    commits.finished(success=False)
    assert commits.due(1) == {}
    assert commits.forget([A]) == {}
