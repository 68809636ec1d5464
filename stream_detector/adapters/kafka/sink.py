"""Messages to Kafka: idempotent, acknowledged by all replicas, a bounded number in flight."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from kafka import KafkaProducer
from kafka.codec import lz4_encode
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.errors import RecordListTooLargeError as BatchTooLargeError
from kafka.serializer import Serializer

from stream_detector.adapters.kafka.admin import topics
from stream_detector.adapters.kafka.client import explain, options
from stream_detector.config import milliseconds
from stream_detector.ports import SinkError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector import config
    from stream_detector.ports import Ended
    from stream_detector.records import Message

log = logging.getLogger(__name__)

LINGER_MS = 3  # an event leaves within milliseconds; a burst still fills its batches
MAX_MESSAGE_BYTES = 64 << 20  # the broker's limit decides, not the client's
ALWAYS_FITS = 64 << 10
OVERHEAD = 300  # bytes of a batch and of one record in it, generously
DEFAULT_LIMIT = 1_048_588  # Kafka's own message.max.bytes
_TOO_LARGE = (MessageSizeTooLargeError, BatchTooLargeError)
_NOTHING = object()


class KafkaSink:
    """ports.Sink on an idempotent producer.

    Once a message was not delivered, every later `send` and `flush` raises: nothing above it may
    be committed. A dead letter that is larger than its topic allows goes without its value, with
    all its headers and `dlq_truncated`, the number of bytes left out; any other message of that
    size is a SinkError.
    """

    def __init__(
        self, kafka: config.Kafka, output: config.Output, producer: KafkaProducer | None = None
    ) -> None:
        """`producer`: one to use instead of its own."""
        self._kafka = kafka
        self._dead_letter_topic = output.dead_letter_topic
        self._max_in_flight = output.max_in_flight
        self._timeout = milliseconds(output.delivery_timeout) / 1000 + 5
        self._pending: deque[tuple[Any, Message]] = deque()  # in the order they were sent
        self._failure: str | None = None
        self.cause: Exception | None = None
        """What the client said of the message that was not delivered."""
        self._dead_letter_limit: int | None = None  # bytes; asked for when one is large
        self._closed = False
        try:
            self._producer = producer or KafkaProducer(**producer_options(kafka, output))
        except (KafkaError, OSError, ValueError) as error:
            raise SinkError(explain(kafka, error)) from error

    @property
    def unseen(self) -> bool:
        return False

    def ended(self) -> Sequence[Ended]:
        return ()

    @property
    def in_flight(self) -> int:
        """Messages whose answer was not taken yet."""
        return len(self._pending)

    def send(self, message: Message) -> None:
        if message.topic == self._dead_letter_topic:
            message = self._fitted(message)
        self._take_answers(self._max_in_flight - 1)
        try:
            future = self._producer.send(
                message.topic,
                key=message.key,
                # Neither key nor value is legal in Kafka and refused by the client's first check.
                value=_NOTHING if message.value is None else message.value,
                headers=list(message.headers),
                timestamp_ms=message.timestamp,
            )
        except (KafkaError, TypeError, ValueError) as error:
            self.cause = error
            self._failure = f"topic {message.topic!r}: {self._reason(message, error)}"
        else:
            self._pending.append((future, message))

    def flush(self) -> None:
        if self._pending and self._failure is None:
            # What counts are the answers, taken below. The client also raises where it merely
            # split a batch that was too large.
            with contextlib.suppress(KafkaError):
                self._producer.flush(timeout=self._timeout)
        self._take_answers(0)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            # After a failure nothing that is still queued may matter: leave at once.
            self._producer.close(timeout=self._timeout if self._failure is None else 1)
        except KafkaError as error:
            log.warning("the producer was not closed cleanly: %s", error)

    def _take_answers(self, most: int) -> None:
        """Take the answers that are there, and wait while more than `most` are outstanding."""
        if self._failure is not None:
            raise SinkError(self._failure)
        pending = self._pending
        deadline = time.monotonic() + self._timeout
        while pending and (pending[0][0].is_done or len(pending) > most):
            future, message = pending[0]
            if not future.is_done:
                with contextlib.suppress(KafkaError):  # its own failure is looked at below
                    future.get(timeout=max(0.0, deadline - time.monotonic()))
            if not future.is_done:
                self.cause = KafkaTimeoutError()
                self._failure = self._silence(message)
            elif future.failed():
                self.cause = future.exception
                self._failure = (
                    f"topic {message.topic!r}: {self._reason(message, future.exception)}"
                )
            if self._failure is not None:
                raise SinkError(self._failure)
            pending.popleft()

    def _fitted(self, message: Message) -> Message:
        """The message, without its value where the dead-letter topic would not take it.

        Decided before sending: the client gives up for good on a message that is refused, and
        everything else in flight with it.
        """
        if message.value is None or len(message.value) < ALWAYS_FITS:
            return message
        if self._dead_letter_limit is None:
            self._dead_letter_limit = self._ask_limit()
        headers = b"".join(name.encode() + value for name, value in message.headers)
        content = (message.key or b"") + message.value + headers
        size = min(len(content), len(lz4_encode(content))) + OVERHEAD
        if size <= min(self._dead_letter_limit, MAX_MESSAGE_BYTES):
            return message
        truncated = ("dlq_truncated", str(len(message.value)).encode())
        return message._replace(value=None, headers=(*message.headers, truncated))

    def _ask_limit(self) -> int:
        try:
            found = topics(self._kafka, [self._dead_letter_topic])
        except SourceError as error:
            log.warning("assuming Kafka's default limit of a message's size: %s", error)
            found = {}
        known = found.get(self._dead_letter_topic)
        return known.max_message_bytes if known else DEFAULT_LIMIT

    def _silence(self, message: Message) -> str:
        place = ",".join(self._kafka.bootstrap_servers)
        return (
            f"topic {message.topic!r}: no acknowledgement from Kafka at {place} within "
            f"{self._timeout:g} s; check the brokers and their in-sync replicas"
        )

    def _reason(self, message: Message, error: Exception) -> str:
        if isinstance(error, _TOO_LARGE):
            size = len(message.value or b"")
            return f"a message of {size} bytes is too large; raise the topic's max.message.bytes"
        if isinstance(error, KafkaTimeoutError) and "metadata" in str(error):
            return (
                "the topic does not exist or no broker answers; create it "
                "(stream-detector check --create-topics)"
            )
        return explain(self._kafka, error)


class _Bytes(Serializer):  # type: ignore[misc]  # kafka-python publishes no types
    """Bytes as they are; stands in for the value None, see KafkaSink.send."""

    def serialize(self, topic: str, headers: object, data: Any) -> bytes | None:  # noqa: ARG002
        value: bytes | None = None if data is _NOTHING else data
        return value


def producer_options(kafka: config.Kafka, output: config.Output) -> dict[str, Any]:
    """All options of the producer, in kafka-python's names."""
    delivery = max(milliseconds(output.delivery_timeout), LINGER_MS + 100)
    return options(kafka) | {
        "enable_idempotence": True,
        "acks": "all",
        "compression_type": "lz4",
        "linger_ms": LINGER_MS,
        "batch_size": 128 << 10,
        "delivery_timeout_ms": delivery,
        "request_timeout_ms": min(30_000, delivery - LINGER_MS),
        "max_block_ms": min(60_000, delivery),
        "max_request_size": MAX_MESSAGE_BYTES,
        "value_serializer": _Bytes(),
    }
