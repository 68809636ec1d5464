"""A topic is copied under the keys of its series, on the broker in memory."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.commands.rekey import Ends, copy, target_of
from stream_detector.config import ConfigError, DetectorConfig, parse_yaml
from stream_detector.core.placement import Placement
from stream_detector.core.rejections import MisconfiguredError
from stream_detector.formats.json import JsonDecoder
from stream_detector.ports import BEGUN, SinkError
from stream_detector.records import Partition, Record
from stream_detector.rekeying import SETTLED, Copied, Copying, Rekeyer, TimeOrder
from tests.pipeline.loop_case import LETTERS, T0, StillClock, headers, sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.records import Message

OLD, NEW, GROUP = "sensors", "by-series", "detector-rekey"
CONFIG = """
kafka: {bootstrap_servers: ["none:0"], group_id: detector}
input: {topics: [sensors]}
output: {topic: events, dead_letter_topic: letters}
model: {registry: /nowhere}
rekey: {topic: by-series}
"""


def config(**changes: Any) -> DetectorConfig:
    text = CONFIG + "".join(f"{key}: {json.dumps(value)}\n" for key, value in changes.items())
    return parse_yaml(text, DetectorConfig, environment={})


def run(broker: MemoryBroker, settings: DetectorConfig | None = None) -> Copied:
    """Everything that is there, then the end."""

    def connect(_: DetectorConfig, __: str, *, create: bool) -> Ends:  # noqa: ARG001
        return Ends(broker.source([OLD], GROUP, start="earliest", finite=True), broker.sink())

    return copy(settings or config(), NEW, lambda: False, connect)


def topics(partitions: int = 4) -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic(OLD, partitions)
    broker.create_topic(NEW, partitions)
    return broker


def by_series(messages: Sequence[Message]) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for message in messages:
        found[(message.key or b"").decode()].append(message.value or b"")
    return dict(found)


def test_an_unkeyed_topic_becomes_one_in_which_each_series_lies_whole_and_in_order() -> None:
    broker = topics()
    sent: dict[str, list[bytes]] = defaultdict(list)
    for minute in range(300):
        for name in ("a", "b/c", "d"):
            value = sample(name, T0 + minute, float(minute))
            sent[name].append(value)
            broker.append(OLD, value, timestamp=T0 + minute)
    copied = run(broker)
    assert by_series(broker.messages(NEW)) == sent
    assert (copied.records, copied.messages, copied.split, copied.dead_letters) == (900, 900, 0, 0)
    source = broker.source([NEW], "reader", start="earliest", finite=True)
    records = source.poll(0, 1000).records
    found = Placement().check(records, {NEW: 4})
    assert not found.unkeyed
    assert not found.misplaced
    for record in records:
        assert record.timestamp == json.loads(record.value or b"")["timestamp"]
    ends = {n: len(log) for n, log in enumerate(broker.logs(OLD))}
    assert {p.number: at.offset for p, at in broker.committed(GROUP).items()} == ends


def test_a_record_of_one_series_keeps_its_bytes_and_one_of_several_is_split() -> None:
    broker = topics(1)
    one = b'[ {"series":"a","timestamp":1,"value":1} , {"series":"a","timestamp":2,"value":2}]'
    array = b'[{"series":"a","timestamp":3,"value":3}, {"series":"b", "timestamp":3,"value":4}]'
    lines = b'{"series":"a","timestamp":4,"value":5}\r\n\n{"series":"b","timestamp":4,"value":6}'
    for at, value in enumerate((one, array, lines)):
        broker.append(OLD, value, b"host", timestamp=T0 + at)
    copied = run(broker)
    assert by_series(broker.messages(NEW)) == {
        "a": [one, array[1:39], lines.split(b"\r")[0]],
        "b": [b'{"series":"b", "timestamp":3,"value":4}', lines.split(b"\n")[-1]],
    }
    assert [message.timestamp for message in broker.messages(NEW)] == [T0, T0 + 1, T0 + 1] + [
        T0 + 2
    ] * 2
    assert (copied.records, copied.messages, copied.split) == (3, 5, 2)


def test_what_cannot_be_decoded_is_dead_lettered_and_harms_no_neighbour() -> None:
    broker = topics(1)
    half = b'[{"series":"a","timestamp":1,"value":NaN}, {"series":"a","timestamp":2,"value":7}]'
    for value in (b"{", None, half, sample("b", T0, 1.0)):
        broker.append(OLD, value, b"host")
    copied = run(broker)
    assert by_series(broker.messages(NEW)) == {
        "a": [b'{"series":"a","timestamp":2,"value":7}'],
        "b": [sample("b", T0, 1.0)],
    }
    letters = [headers(message) for message in broker.messages(LETTERS)]
    assert [letter["dlq_reason"] for letter in letters] == ["malformed", "empty", "non_finite"]
    assert letters[2]["dlq_index"] == "0"
    assert copied.dead_letters == 3


def test_a_topic_that_the_fields_do_not_fit_is_left_untouched() -> None:
    broker = topics(1)
    for _ in range(200):
        broker.append(OLD, b'{"name":"a"}')
    limits = {"rejected_window": 100}
    with pytest.raises(MisconfiguredError, match="missing_field"):
        run(broker, config(limits=limits))
    assert not broker.messages(LETTERS)
    assert broker.committed(GROUP) == {Partition(OLD, 0): (0, BEGUN)}


def test_a_copy_that_is_not_acknowledged_is_made_again() -> None:
    broker = topics(2)
    for at in range(50):
        broker.append(OLD, sample(f"s{at % 5}", T0 + at, 1.0), timestamp=T0 + at)
    broker.fail(NEW, "no replica")
    with pytest.raises(SinkError, match="no replica"):
        run(broker)
    assert all(at.offset == 0 for at in broker.committed(GROUP).values())
    broker.fail(NEW, None)
    assert run(broker).messages == 50
    assert len(broker.messages(NEW)) == 50


def test_partitions_that_move_to_another_worker_are_copied_once() -> None:
    broker = topics()
    for at in range(400):
        broker.append(OLD, sample("s", T0 + at, float(at)), timestamp=T0 + at)
    decoder = JsonDecoder(
        config().input.fields, max_record_bytes=1000, max_samples=10, max_series_length=10
    )

    def worker() -> Rekeyer:
        source = broker.source([OLD], GROUP, start="earliest")
        copying = Copying(NEW, LETTERS, max_batch=30, order_wait=0.0, poll_timeout=0.0)
        return Rekeyer(source, broker.sink(), decoder, copying, StillClock())

    one, two = worker(), worker()
    for turn in range(200):
        one.turn()
        if turn > 2:
            two.turn()
    assert two.copied.records > 50
    values = [json.loads(message.value or b"")["value"] for message in broker.messages(NEW)]
    assert sorted(values) == list(range(400))


def record(partition: int, offset: int, time: int) -> Record:
    return Record(OLD, partition, offset, time, None, b"x" * 100)


def test_the_oldest_record_waits_until_every_partition_has_shown_its_next() -> None:
    order = TimeOrder(5.0)
    zero, one = Partition(OLD, 0), Partition(OLD, 1)
    order.assign([zero, one], 0.0)
    order.add([record(0, 0, 10), record(0, 1, 30)], 0.0)
    assert order.ready({}, 1.0) == []
    order.add([record(1, 0, 20)], 1.0)
    assert [r.timestamp for r in order.ready({zero: 0, one: 7}, 1.5)] == [10, 20]
    assert order.ready({zero: 0, one: 7}, 2.0) == []
    assert [r.timestamp for r in order.ready({zero: 0, one: 7}, 6.0)] == [30]


def test_a_partition_at_its_end_holds_up_nobody_and_a_revoked_one_leaves_nothing() -> None:
    order = TimeOrder(5.0)
    zero, one = Partition(OLD, 0), Partition(OLD, 1)
    order.assign([zero, one], 0.0)
    order.add([record(0, 0, 10)], 0.0)
    assert [r.offset for r in order.ready({zero: 0, one: 0}, SETTLED)] == [0]
    order.add([record(0, 1, 11), record(1, 0, 12)], 2.0)
    order.revoke([zero])
    assert [r.timestamp for r in order.ready({one: 0}, 2.0)] == [12]


def test_a_record_waits_a_little_for_what_was_written_beside_it() -> None:
    order = TimeOrder(5.0)
    zero, one = Partition(OLD, 0), Partition(OLD, 1)
    order.assign([zero, one], 0.0)
    order.add([record(0, 0, 20)], 9.0)
    assert order.ready({zero: 0, one: 0}, 9.0) == []  # as far as was heard, `one` is at its end
    order.add([record(1, 0, 10)], 9.3)
    assert [r.timestamp for r in order.ready({zero: 0, one: 0}, 9.3)] == [10]
    assert [r.timestamp for r in order.ready({zero: 0, one: 0}, 10.0)] == [20]
    at_once = TimeOrder(0.0)
    at_once.assign([zero, one], 0.0)
    at_once.add([record(0, 0, 20)], 9.0)
    assert len(at_once.ready({}, 9.0)) == 1


def test_memory_is_bounded_by_going_on_without_the_partition_that_shows_nothing() -> None:
    order = TimeOrder(1e9, most=10_000)
    order.assign([Partition(OLD, 0), Partition(OLD, 1)], 0.0)
    gone = 0
    for at in range(100):
        order.add([record(0, at, at)], 0.0)
        gone += len(order.ready({}, 0.0))
    assert 70 <= gone <= 80  # of 400 bytes each, 25 wait


def test_a_copy_into_a_topic_that_is_read_or_written_already_is_refused() -> None:
    assert target_of(config(), "other") == "other"
    for taken in (OLD, "events", "letters"):
        with pytest.raises(ConfigError, match=f"rekey.topic: {taken} is a topic of"):
            target_of(config(), taken)
    with pytest.raises(ConfigError, match="name the topic to write to"):
        target_of(parse_yaml(CONFIG.replace("rekey:", "#"), DetectorConfig, environment={}))
