"""Partitions that nobody has: told when two looks in a row find them, and not at every look."""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector import config
from stream_detector.adapters.kafka import admin as questions
from stream_detector.adapters.kafka import unassigned as adapter
from stream_detector.ports import SourceError
from stream_detector.records import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ONE, TWO = Partition("t", 1), Partition("t", 2)
KAFKA = config.Kafka(bootstrap_servers=["nowhere:9092"], group_id="g")


class Asked:
    """Gives the answers, then waits."""

    def __init__(self, answers: Iterable[set[Partition] | SourceError]) -> None:
        self._left = iter(answers)
        self.over = threading.Event()  # all were given and used
        self.end = threading.Event()

    def __call__(self, *_: object) -> frozenset[Partition]:
        answer = next(self._left, None)
        if isinstance(answer, SourceError):
            raise answer
        if answer is None:
            self.over.set()
            self.end.wait()
        return frozenset(answer or ())


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., adapter.Unassigned]]:
    """Makes one that has looked as often as there are answers."""
    with contextlib.ExitStack() as ends:

        def make(answers: Iterable[set[Partition] | SourceError]) -> adapter.Unassigned:
            ask = Asked(answers)
            monkeypatch.setattr(adapter, "unassigned", ask)
            watch = adapter.Unassigned(KAFKA, ["t"], every=0.0)
            watch.lasting()
            ends.callback(ask.end.set)
            ends.callback(watch.close)
            assert ask.over.wait(30)
            return watch

        yield make


@pytest.mark.parametrize(
    ("answers", "lasting"),
    [
        ([], set()),
        ([{ONE}], set()),
        ([{ONE}, {ONE, TWO}], {ONE}),
        ([{ONE}, {TWO}], set()),
        ([{ONE}, {ONE}, {ONE}, set()], set()),
        ([{ONE}, SourceError("no broker"), {ONE}], set()),
    ],
)
def test_partitions_are_nobodys_once_two_looks_in_a_row_found_them_so(
    looked: Callable[..., adapter.Unassigned],
    answers: list[set[Partition] | SourceError],
    lasting: set[Partition],
) -> None:
    watch = looked(answers)
    assert watch.lasting() == watch.news() == lasting
    assert not watch.news(), "told once"


def test_what_lasts_is_told_again_after_every_other_look(
    looked: Callable[..., adapter.Unassigned],
) -> None:
    told = [bool(looked(itertools.repeat({ONE}, count)).news()) for count in range(7)]
    assert told == [False, False, True, False, True, False, True]


def test_nothing_is_asked_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> frozenset[Partition]:
        raise AssertionError("asked")

    monkeypatch.setattr(adapter, "unassigned", ask)
    watch = adapter.Unassigned(KAFKA, ["t"], every=60.0)
    watch.lasting()
    watch.close()
    assert watch._thread is not None
    watch._thread.join(timeout=10)
    assert not watch._thread.is_alive()


class Cluster:
    """A group of two members, and one topic of three partitions."""

    state = "Stable"
    error: str | None = None
    members: tuple[tuple[int, ...] | None, ...] = ((0,), (2,))

    def describe_groups(self, names: list[str]) -> dict[str, Any]:
        def assignment(numbers: tuple[int, ...]) -> dict[str, Any]:
            return {"assigned_partitions": [{"topic": "t", "partitions": list(numbers)}]}

        members = [
            {"member_assignment": None if one is None else assignment(one)} for one in self.members
        ]
        found = {"group_state": self.state, "members": members, "error": self.error}
        return {names[0]: found}

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        there = [{"partition_index": number} for number in range(3)]
        return [
            {"name": name, "error_code": 0 if name == "t" else 3, "partitions": there}
            for name in names
        ]

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("state", "members", "expected"),
    [
        ("Stable", ((0,), (2,)), {1}),
        ("Stable", ((0, 1), (2,)), set()),
        ("Stable", ((0,), None), {1, 2}),
        ("PreparingRebalance", ((0,), ()), set()),
    ],
)
def test_nobodys_are_those_of_the_topics_that_no_member_of_a_settled_group_has(
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    members: tuple[tuple[int, ...] | None, ...],
    expected: set[int],
) -> None:
    cluster = Cluster()
    cluster.state, cluster.members = state, members
    monkeypatch.setattr(questions, "KafkaAdminClient", lambda **_: cluster)
    found = questions.unassigned(KAFKA, ["t", "absent"])
    assert found == {Partition("t", number) for number in expected}


def test_a_group_that_may_not_be_asked_about_is_no_group_without_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster()
    cluster.state, cluster.members = "", ()
    cluster.error = "GroupAuthorizationFailedError"
    monkeypatch.setattr(questions, "KafkaAdminClient", lambda **_: cluster)
    with pytest.raises(SourceError, match="group g: GroupAuthorizationFailedError"):
        questions.unassigned(KAFKA, ["t"])
