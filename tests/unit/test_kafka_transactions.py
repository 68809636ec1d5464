"""When a transaction is given up, when the service stops, and calls that never come back."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from kafka import KafkaProducer, errors
from kafka.coordinator.base import MemberState
from kafka.future import Future
from kafka.structs import ConsumerGroupMetadata

from stream_detector import config
from stream_detector.adapters.kafka import transactions as module
from stream_detector.adapters.kafka.committing import REBALANCE_S, TransactionCommitter
from stream_detector.adapters.kafka.transactions import Transactions, transactional_options
from stream_detector.ports import Ended, Position, SinkError
from stream_detector.records import Message, Partition

KAFKA = config.Kafka(bootstrap_servers=["a:9092"], group_id="plant")
OUTPUT = config.Output(topic="anomalies", dead_letter_topic="dlq", delivery_timeout="60s")
EVENT = Message("anomalies", b"k", b"v")
MEMBER = ConsumerGroupMetadata(
    group_id="plant", generation_id=3, member_id="m", state=MemberState.STABLE
)


class Producer:
    """Stands in for kafka-python's: does what it is told to do at each call."""

    made: list[Producer]
    fails: dict[str, Exception]
    hangs: str = ""

    def __init__(self, **options: Any) -> None:
        assert options["transactional_id"] == "t"
        self.calls: list[str] = []
        self.made.append(self)

    def _do(self, call: str) -> None:
        self.calls.append(call)
        if call in self.fails:
            raise self.fails[call]
        if call == self.hangs:
            threading.Event().wait(30)

    def init_transactions(self) -> None:
        self._do("init")

    def begin_transaction(self) -> None:
        self._do("begin")

    def send(self, topic: str, **given: Any) -> Future:
        assert given
        self._do("send")
        future = Future()
        failure = self.fails.get(topic)
        return future.success(None) if failure is None else future.failure(failure)

    def send_offsets_to_transaction(self, offsets: object, member: object) -> None:
        assert offsets
        assert isinstance(member, ConsumerGroupMetadata)
        self._do("offsets")

    def commit_transaction(self) -> None:
        self._do("commit")

    def abort_transaction(self) -> None:
        self._do("abort")

    def flush(self, timeout: float) -> None: ...

    def close(self, timeout: float) -> None:
        assert timeout
        self._do("close")


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    Producer.made, Producer.fails, Producer.hangs = [], {}, ""
    monkeypatch.setattr(module, "KafkaProducer", Producer)
    return Producer.made


def begun(clock: Clock, timeout_ms: int = 10_000) -> Transactions:
    made = Transactions(KAFKA, OUTPUT, "t", timeout_ms=timeout_ms, clock=clock)
    made.send(EVENT)
    made.cover()
    return made


def test_events_and_offsets_are_one_transaction(producers: list[Producer]) -> None:
    made = begun(Clock())
    made.send(EVENT)
    made.cover()
    assert made.unseen
    assert made.commit({"offsets": 1}, MEMBER)
    assert not made.unseen
    assert producers[0].calls == ["init", "begin", "send", "send", "offsets", "commit"]
    assert [each.outcome for each in made.ended()] == ["committed"]


def test_a_transaction_that_is_left_behind_is_told_as_aborted_with_its_time(
    producers: list[Producer],
) -> None:
    clock = Clock()
    made = begun(clock)
    assert len(producers) == 1
    Producer.fails = {"commit": errors.KafkaError("Invalid transition attempted")}
    assert not made.commit({"offsets": 1}, MEMBER)
    assert not made.ended()
    clock.time += 3.0
    assert made.renew()
    assert made.ended() == [Ended("aborted", 3.0)]
    assert not made.ended()


def test_what_could_not_even_begin_is_unseen_until_it_is_told_as_aborted(
    producers: list[Producer],
) -> None:
    made = Transactions(KAFKA, OUTPUT, "t", clock=Clock())
    Producer.fails = {"begin": errors.KafkaTimeoutError("expired")}
    made.send(EVENT)
    assert producers[0].calls == ["init", "begin"]
    assert made.unseen
    assert made.renew()
    assert not made.unseen
    assert made.ended() == [Ended("aborted", 0.0)]


def test_what_was_sent_without_its_offsets_is_not_committed(producers: list[Producer]) -> None:
    made = begun(Clock())
    made.send(EVENT)
    assert not made.commit({"offsets": 1}, MEMBER)
    assert made.broken
    made.close()
    assert producers[0].calls[-2:] == ["abort", "close"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("anomalies", errors.KafkaTimeoutError("expired")),
        ("anomalies", errors.OutOfOrderSequenceNumberError()),
        ("offsets", errors.CommitFailedError("metadata mismatch: IllegalGenerationError")),
        ("commit", errors.KafkaError("Invalid transition attempted")),
    ],
)
def test_what_may_heal_aborts_and_a_new_producer_takes_over(
    call: str, error: Exception, producers: list[Producer]
) -> None:
    clock = Clock()
    made = Transactions(KAFKA, OUTPUT, "t", clock=clock)
    Producer.fails = {call: error}
    made.send(EVENT)
    made.cover()
    assert not made.commit({"offsets": 1}, MEMBER)
    made.send(EVENT)  # dropped: it will be said again
    assert not made.commit({"offsets": 1}, MEMBER)
    Producer.fails = {}
    assert made.renew()
    made.send(EVENT)
    made.cover()
    assert made.commit({"offsets": 1}, MEMBER)
    assert len(producers) == 2
    assert producers[1].calls == ["init", "begin", "send", "offsets", "commit"]


@pytest.mark.parametrize(
    "error",
    [
        errors.MessageSizeTooLargeError(),
        errors.TopicAuthorizationFailedError({"anomalies"}),
        errors.TransactionalIdAuthorizationFailedError(),
    ],
)
def test_what_does_not_heal_stops_the_service(error: Exception, producers: list[Producer]) -> None:
    assert not producers
    made = Transactions(KAFKA, OUTPUT, "t")
    Producer.fails = {"anomalies": error}
    made.send(EVENT)
    made.cover()
    with pytest.raises(SinkError, match="topic 'anomalies'"):
        made.commit({"offsets": 1}, MEMBER)


@pytest.mark.parametrize(
    "error",
    [
        errors.ProducerFencedError(),
        errors.InvalidProducerEpochError(),
        errors.KafkaError("Cannot perform send", errors.ProducerFencedError()),
        errors.KafkaError(f"in an error state: {errors.ProducerFencedError()!r}"),
    ],
)
def test_a_fenced_producer_stops_the_service_unless_its_transaction_had_run_out(
    error: Exception, producers: list[Producer]
) -> None:
    clock = Clock()
    made = begun(clock)
    Producer.fails = {"send": error}
    made.send(EVENT)
    with pytest.raises(SinkError, match="another worker uses the transactional id 't'"):
        made.send(EVENT)
    Producer.fails = {}
    assert made.renew()
    made.send(EVENT)
    clock.time += 10
    Producer.fails = {"offsets": error}
    made.cover()
    assert not made.commit({"offsets": 1}, MEMBER)
    assert made.broken
    assert len(producers) == 2


def test_a_call_that_never_comes_back_is_given_up_in_time(producers: list[Producer]) -> None:
    made = begun(Clock(), timeout_ms=200)
    Producer.hangs = "commit"
    assert not made.commit({"offsets": 1}, MEMBER)
    Producer.hangs = ""
    assert made.renew()
    assert len(producers) == 2


def test_failures_that_last_longer_than_the_delivery_timeout_stop_the_service(
    producers: list[Producer],
) -> None:
    clock = Clock()
    made = begun(clock)
    Producer.fails = {"offsets": errors.NotCoordinatorError("moved")}
    assert not made.commit({"offsets": 1}, MEMBER)
    clock.time += 59
    assert made.renew()
    assert not made.commit({"offsets": 1}, MEMBER)
    clock.time += 2
    assert made.renew()
    with pytest.raises(SinkError, match=r"nothing was committed for 60 s: .*moved"):
        made.commit({"offsets": 1}, MEMBER)
    assert len(producers) == 3


def test_brokers_that_are_away_for_long_are_waited_for(producers: list[Producer]) -> None:
    clock = Clock()
    made = begun(clock)
    Producer.fails = {"offsets": errors.NotCoordinatorError()}
    assert not made.commit({"offsets": 1}, MEMBER)
    Producer.fails = {"init": errors.KafkaConnectionError("no broker")}
    for _ in range(5):
        clock.time += 60
        assert not made.renew()
    Producer.fails = {"offsets": errors.NotCoordinatorError()}
    assert made.renew()
    assert not made.commit({"offsets": 1}, MEMBER)
    Producer.fails = {}
    assert made.renew()
    assert made.commit({"offsets": 1}, MEMBER)
    assert len(producers) == 8


def test_every_option_is_one_that_the_client_knows() -> None:
    made = transactional_options(KAFKA, OUTPUT, "t")
    assert made.keys() <= KafkaProducer.DEFAULT_CONFIG.keys()
    assert made["transaction_timeout_ms"] <= 10_000
    assert made["retry_backoff_ms"] <= 10


# When it is committed


class Consumer:
    member = MEMBER

    def group_metadata(self) -> ConsumerGroupMetadata:
        return self.member


PART = Partition("t", 0)


def test_commits_are_as_far_apart_as_configured_and_wait_a_little_for_a_rebalance(
    producers: list[Producer],
) -> None:
    clock, consumer = Clock(), Consumer()
    made = Transactions(KAFKA, OUTPUT, "t", clock=clock)
    committer = TransactionCommitter(consumer, made, 1.0, clock)

    def turn(offset: int) -> int:
        committer.note({PART: Position(offset)})
        committer.commit_when_due()
        return producers[0].calls.count("commit")

    assert [turn(1), turn(2)] == [1, 1]
    clock.time += 1
    assert turn(3) == 2
    consumer.member = MEMBER._replace(state=MemberState.REBALANCING)
    clock.time += 1
    assert turn(4) == 2
    clock.time += REBALANCE_S
    assert turn(5) == 3
    assert committer.done() == {PART: Position(5)}


def test_a_member_that_was_thrown_out_commits_nothing(producers: list[Producer]) -> None:
    clock, consumer = Clock(), Consumer()
    consumer.member = MEMBER._replace(generation_id=-1, member_id="")
    committer = TransactionCommitter(
        consumer, Transactions(KAFKA, OUTPUT, "t", clock=clock), 1.0, clock
    )
    committer.note({PART: Position(1)})
    committer.commit_when_due()
    assert committer.broken
    assert producers[0].calls == ["init"]
