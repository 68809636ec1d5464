"""Where a partition goes on of which the client says that the group has no position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka import TopicPartition, errors
from kafka.structs import OffsetAndMetadata

from stream_detector import config
from stream_detector.adapters.kafka import source as adapter
from stream_detector.ports import BEGUN, Position, Start
from stream_detector.records import Partition

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

OLD, NEW = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """Owns both partitions from the first poll on; of one of them the group has a commit."""

    def __init__(self, **_: Any) -> None:
        self.sought: dict[TopicPartition, int] = {}
        self.sent: dict[TopicPartition, OffsetAndMetadata] = {}
        self._polls = 0

    def subscribe(self, topics: Any, listener: Any) -> None:
        assert topics == ("t",)
        self._source = listener._source

    def poll(self, **_: Any) -> dict[Any, Any]:
        self._polls += 1
        if self._polls == 1:
            self._source._on_assigned(frozenset({Partition(*OLD), Partition(*NEW)}))
            raise errors.NoOffsetForPartitionError({OLD, NEW})
        return {}

    def committed(self, place: Any, *, metadata: bool = False, **_: Any) -> Any:
        if place == NEW:
            return None
        return OffsetAndMetadata(240, "state", -1) if metadata else 240

    def beginning_offsets(self, places: list[Any], **_: Any) -> dict[Any, int]:
        return dict.fromkeys(places, 0)

    def seek(self, place: Any, offset: int) -> None:
        self.sought[place] = offset

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == "t"
        return {0, 1}

    def commit_async(self, offsets: Any, callback: Callable[..., None]) -> None:
        assert callback
        self.sent |= offsets


def test_one_that_came_while_others_were_asked_for_goes_on_at_its_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = Consumer()
    monkeypatch.setattr(adapter, "KafkaConsumer", lambda **_: consumer)
    monkeypatch.setattr(adapter, "keep_finished_joins", lambda _: None)
    kafka = config.Kafka(bootstrap_servers=["a:1"], group_id="group")
    source = adapter.KafkaSource(kafka, ["t"], "earliest")

    source.poll(0.0, 1)
    assert consumer.sought == {OLD: 240, NEW: 0}
    assert source.start(Partition(*OLD)) == Start(240, "state")
    assert source.start(Partition(*NEW)) == Start(0, None)

    source.poll(0.0, 1)
    assert {place: Position(*at[:2]) for place, at in consumer.sent.items()} == {
        NEW: Position(0, BEGUN)
    }
