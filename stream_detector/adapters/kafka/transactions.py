"""Exactly once: events, dead letters and offsets in one transaction, committed together or not.

A transaction that fails is not mended: its producer is left behind, and a new one with the same
transactional id takes over. That aborts what was open, or waits until it is committed; either way
the group's offsets then say from where to go on. Two properties of kafka-python 3.0.12 ask for it:
offsets that an aborted transaction had not yet sent would go out with the next one, and a producer
that had to renew its epoch says of a transaction that it is committed where it was aborted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
from kafka import KafkaProducer, errors

from stream_detector.adapters.kafka.client import explain, heals
from stream_detector.adapters.kafka.sink import KafkaSink, producer_options
from stream_detector.config import milliseconds
from stream_detector.ports import Ended, SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream_detector import config
    from stream_detector.records import Message

log = logging.getLogger(__name__)

TIMEOUT_MS = 10_000
"""A transaction that is open for longer is aborted; readers of committed events wait that long."""
BACKOFF_MS = 5  # the client waits it several times in each transaction, by default 100

_FENCED = (errors.ProducerFencedError, errors.InvalidProducerEpochError)
_ABORTED = (
    errors.TransactionAbortedError,
    errors.OutOfOrderSequenceNumberError,
    errors.UnknownProducerIdError,
    errors.InvalidProducerIdMappingError,
    errors.InvalidTxnStateError,
    errors.IllegalStateError,  # the client gave the transaction up already
)


class Transactions:
    """ports.Sink whose messages are committed by a KafkaSource, with its offsets.

    What does not heal, another producer with this transactional id, or a failure that lasts longer
    than `output.delivery_timeout`, is raised as SinkError.
    """

    def __init__(
        self,
        kafka: config.Kafka,
        output: config.Output,
        transactional_id: str,
        *,
        timeout_ms: int = TIMEOUT_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._patience = milliseconds(output.delivery_timeout) / 1000
        quickest = min(timeout_ms, milliseconds(output.delivery_timeout))
        self._output = msgspec.structs.replace(output, delivery_timeout=f"{quickest}ms")
        self._id = transactional_id
        self._timeout_ms = timeout_ms
        self._clock = clock
        self._failing_since: float | None = None
        self._open = False
        self._began = 0.0
        self._ended: deque[Ended] = deque()  # by the client's thread as well
        self._covered = True
        self._closed = False
        self.broken = False
        """Nothing can be sent or committed before `renew`."""
        try:
            self._producer, self._sink = self._connect()
        except (errors.KafkaError, OSError, ValueError) as error:
            raise SinkError(explain(kafka, error)) from error

    @property
    def unseen(self) -> bool:
        return self._open or self.broken

    def ended(self) -> Sequence[Ended]:
        return [self._ended.popleft() for _ in range(len(self._ended))]

    def send(self, message: Message) -> None:
        if self.broken:
            return
        self._covered = False
        try:
            self._begin()
            self._sink.send(message)
        except (SinkError, errors.KafkaError) as error:
            self._fail(error)

    def flush(self) -> None:
        """The commit waits for the acknowledgements."""

    def cover(self) -> None:
        """The positions that the source was told belong to all that was sent."""
        self._covered = True

    def commit(self, offsets: Mapping[Any, Any], member: Any) -> bool:
        """Commit what was sent and these offsets; False where all of it was, or may be, aborted.

        `member` is the consumer's group metadata: the broker refuses one of an older generation.
        Takes the transaction's timeout at most; may be called from any thread, one at a time.
        """
        if self.broken or not self._covered:
            self.broken = True
            return False
        try:
            self._begin()
            self._sink.flush()
            self._watch(lambda: self._finish(offsets, member))
        except (SinkError, errors.KafkaError) as error:
            self._fail(error)
            return False
        self._end("committed")
        self._failing_since = None
        return True

    def renew(self) -> bool:
        """Begin anew after an abort; False: ask again later."""
        _close_behind(self._producer)
        try:
            self._producer, self._sink = self._connect()
        except (errors.KafkaError, OSError) as error:
            if not (isinstance(error, OSError) or heals(error)):
                raise SinkError(explain(self._kafka, error)) from error
            log.warning("the brokers will be asked again for a transaction: %s", error)
            self._failing_since = None  # while nobody answers nothing fails that could be mended
            return False
        self._end("aborted")
        self._covered, self.broken = True, False
        return True

    def close(self) -> None:
        """What was sent and not committed is aborted."""
        if self._closed:
            return
        self._closed = True
        if self._open:
            try:
                self._watch(self._producer.abort_transaction)
                self._open = False
            except errors.KafkaError as error:
                log.warning("the broker will abort the last transaction by itself: %s", error)
        if self._open:
            _close_behind(self._producer)
        else:
            self._sink.close()

    def _connect(self) -> tuple[KafkaProducer, KafkaSink]:
        """A producer that has taken over the transactional id."""
        options = transactional_options(self._kafka, self._output, self._id, self._timeout_ms)
        producer = KafkaProducer(**options)
        try:
            producer.init_transactions()
        except BaseException:
            _close_behind(producer)
            raise
        return producer, KafkaSink(self._kafka, self._output, producer)

    def _begin(self) -> None:
        if not self._open:
            self._producer.begin_transaction()
            self._open, self._began = True, self._clock()

    def _end(self, outcome: str) -> None:
        seconds = self._clock() - self._began if self._open else 0.0  # it may not have begun
        self._open = False
        self._ended.append(Ended(outcome, seconds))

    def _finish(self, offsets: Mapping[Any, Any], member: Any) -> None:
        if offsets:
            self._producer.send_offsets_to_transaction(offsets, member)
        self._producer.commit_transaction()

    def _watch(self, call: Callable[[], None]) -> None:
        """Let a call take its time on a thread of its own: the client's have no time limit."""
        outcome: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
                outcome.append(error)

        thread = threading.Thread(target=run, name="transaction", daemon=True)
        thread.start()
        thread.join(self._timeout_ms / 1000)
        if thread.is_alive():
            raise errors.KafkaTimeoutError("no answer within the transaction's time")
        if outcome:
            raise outcome[0]

    def _fail(self, error: Exception) -> None:
        """Give the transaction up, or raise SinkError where trying again is in vain."""
        now = self._clock()
        cause = self._cause(error)
        text = str(error) if isinstance(error, SinkError) else explain(self._kafka, error)
        self.broken = True
        timed_out = self._open and now - self._began >= self._timeout_ms / 1000
        if isinstance(cause, _FENCED):
            if not timed_out:
                raise SinkError(
                    f"another worker uses the transactional id {self._id!r}; give each its own "
                    "kafka.transactional_id"
                ) from error
        elif not (heals(cause) or isinstance(cause, _ABORTED) or type(cause) is errors.KafkaError):
            raise SinkError(text) from error
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self._patience:
            raise SinkError(f"nothing was committed for {self._patience:g} s: {text}") from error
        log.warning("the transaction is aborted, going back to the last commit: %s", text)

    def _cause(self, error: Exception) -> Exception:
        """The broker's own error; the client wraps it where the transaction had failed before."""
        if isinstance(error, SinkError):
            error = self._sink.cause or error
        found = next((part for part in error.args if isinstance(part, errors.KafkaError)), error)
        if errors.ProducerFencedError.__name__ in str(found):
            found = errors.ProducerFencedError()
        cause: Exception = found
        return cause


def _close_behind(producer: KafkaProducer) -> None:
    """Close a producer that may take its time, or never come to an end."""

    def close() -> None:
        for _ in range(3):  # until what it still wants to send has expired
            try:
                producer.close(timeout=TIMEOUT_MS / 1000)
            except errors.KafkaError as error:
                log.info("a producer left behind was not closed cleanly: %s", error)
            else:
                return

    threading.Thread(target=close, name="producer left behind", daemon=True).start()


def transactional_options(
    kafka: config.Kafka, output: config.Output, transactional_id: str, timeout_ms: int = TIMEOUT_MS
) -> dict[str, Any]:
    """All options of a transactional producer, in kafka-python's names."""
    made = producer_options(kafka, output)
    return made | {
        "transactional_id": transactional_id,
        "transaction_timeout_ms": timeout_ms,
        "retry_backoff_ms": BACKOFF_MS,
        "max_block_ms": min(made["max_block_ms"], timeout_ms),
    }
