"""Records in the wrong partition or without a key, and topics that change their partitions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.commands.run import refuse_repartitioned
from stream_detector.core.placement import Placement
from stream_detector.core.repartition import changed, objection, partitions_then, parts_of
from stream_detector.inputs import Inputs
from stream_detector.ports import Odd, Position, SourceError
from stream_detector.records import Partition, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.core.repartition import OnRepartition

KEYS = [b"plant-%d/pump-%d" % (n % 3, n) for n in range(200)]


def records(partitions: int, topic: str = "t") -> list[Record]:
    """One of each key, where Kafka's producers put it."""
    broker = MemoryBroker(partitions)
    return [broker.append(topic, b"v", key, timestamp=0) for key in KEYS]


def test_records_that_lie_where_their_key_belongs_are_no_matter() -> None:
    found = Placement().check(records(7), {"t": 7})
    assert (found.misplaced, found.unkeyed, found.example) == ({}, {}, None)


def test_every_record_elsewhere_is_counted_by_its_topic() -> None:
    right = records(7)
    wrong = [r._replace(partition=(r.partition + 1) % 7) for r in right[:30]]
    other = [r._replace(topic="u", key=None) for r in right[:5]]
    found = Placement().check([*wrong, *right, *other, *wrong], {"t": 7, "u": 2})
    assert found.misplaced == {"t": 60}
    assert found.unkeyed == {"u": 5}
    assert found.example in wrong


def test_a_topic_of_one_partition_or_of_an_unknown_number_is_not_judged() -> None:
    given = [Record("t", 0, 0, 0, None, b""), Record("u", 5, 0, 0, b"k", b"")]
    found = Placement().check(given, {"t": 1})
    assert not found.unkeyed
    assert not found.misplaced


def test_after_partitions_were_added_keys_belong_elsewhere() -> None:
    given = records(4)
    moved = sum(r.partition != s.partition for r, s in zip(given, records(8), strict=True))
    assert 0 < moved < len(given)
    assert Placement().check(given, {"t": 8}).misplaced == {"t": moved}


class Source:
    """What Inputs asks of a source."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.counts = dict(partitions)

    def partitions(self) -> Mapping[str, int]:
        return self.counts


def look(inputs: Inputs, source: Source, some: list[Record], now: float) -> Odd:
    return inputs.look(some, source, now)  # type: ignore[arg-type]  # all that it asks


def test_what_is_odd_is_counted_at_once_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inputs, source = Inputs(), Source({"t": 7})
    wrong = [r._replace(partition=(r.partition + 1) % 7) for r in records(7)[:9]]
    unkeyed = [r._replace(key=None) for r in records(7)[:4]]
    with caplog.at_level(logging.WARNING):
        for second in range(0, 100, 10):
            odd = look(inputs, source, [*wrong, *unkeyed], float(second))
            assert odd == ({"t": 4}, {"t": 9}, {})
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4
    assert told[0].startswith("records without a key: 4 of t; `stream-detector rekey`")
    assert "give" in told[1]
    assert "9 of t, e.g. key b'plant-" in told[1]
    assert "24 of t" in told[2]  # of six looks
    assert "54 of t" in told[3]


def test_a_topic_that_grows_while_it_is_read_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    inputs, source = Inputs(), Source({"t": 4})
    assert look(inputs, source, [], 0.0).repartitioned == {}
    source.counts["t"] = 8
    assert look(inputs, source, [], 0.5).repartitioned == {}  # looked at once a second
    assert look(inputs, source, [], 1.5).repartitioned == {"t": 8}
    assert look(inputs, source, [], 9.0).repartitioned == {}
    (record,) = caplog.records
    assert "topic t has 8 partitions now, it had 4" in record.getMessage()
    given = records(8)
    assert look(inputs, source, given, 10.0).misplaced == {}


@pytest.mark.parametrize(
    ("metadata", "parts"),
    [
        ('{"v": 1, "parts": 12, "snap": []}', 12),
        ("", None),
        ("consumer-7", None),
        ("[12]", None),
        ('{"v": 1}', None),
        ('{"parts": "12"}', None),
        ('{"parts": true}', None),
        ('{"parts": 0}', None),
        ("[" * 100_000, None),
    ],
)
def test_metadata_of_any_kind_can_be_asked_for_the_number_of_partitions(
    metadata: str, parts: int | None
) -> None:
    assert parts_of(metadata) == parts


def commits(*parts: int | None, topic: str = "t") -> dict[Partition, Position]:
    texts = ["" if count is None else f'{{"parts": {count}}}' for count in parts]
    return {Partition(topic, n): Position(9, text) for n, text in enumerate(texts)}


def test_the_newest_count_among_the_commits_of_partitions_that_exist_is_what_was() -> None:
    def then(now: int, *parts: int | None) -> dict[str, int]:
        given = commits(*parts)
        return partitions_then(((p, at.metadata) for p, at in given.items()), {"t": now})

    assert then(8, 4, 4, None, 4) == {"t": 4}
    assert then(8, 4, 8, 4) == {"t": 8}  # one partition has been quiet since
    assert then(2, 2, 2, 4, 4) == {"t": 2}  # the others are gone
    assert then(8) == then(8, None) == {}


@pytest.mark.parametrize(
    ("then", "now", "choice", "refused"),
    [
        ({}, {"t": 8}, "refuse", False),
        ({"t": 8}, {"t": 8}, "refuse", False),
        ({"t": 4}, {"t": 8}, "refuse", True),
        ({"t": 8}, {"t": 4}, "refuse", True),
        ({"t": 4}, {"t": 8}, "rewarm", False),
        ({"gone": 4}, {"t": 8}, "refuse", False),
    ],
)
def test_another_number_of_partitions_is_refused_unless_rewarming_was_asked_for(
    then: dict[str, int], now: dict[str, int], choice: OnRepartition, *, refused: bool
) -> None:
    assert (objection(then, now, choice) is not None) == refused


def test_the_refusal_names_topic_counts_and_the_way_out() -> None:
    with pytest.raises(SourceError, match="t has 8 partitions, it had 4") as raised:
        refuse_repartitioned(commits(4, 4), {"t": 8}, "refuse")
    assert "--on-repartition rewarm" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert refuse_repartitioned(commits(4, 4), {"t": 8, "u": 2}, "rewarm") == {"t": 4, "u": 2}
    assert changed({"t": 4}, {"t": 8, "u": 2}) == {"t": (4, 8)}
