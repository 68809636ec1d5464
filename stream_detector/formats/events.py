"""Events and dead letters -> messages and lines, and back: CloudEvents 1.0, binary and structured.

On Kafka an event's attributes are headers and its body is the value; in files both are one JSON
object a line. Bytes and values only, nothing is sent from here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from stream_detector.formats.timestamps import to_text
from stream_detector.records import Message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_detector.records import AnomalyEvent, Rejected

CONTENT_TYPE = "application/json"
_HEADER_PREFIX = "ce_"
_ATTRIBUTES = ("specversion", "id", "source", "type", "time", "subject")

# The common forms of RFC 3986; what is valid but rarer is encoded, which is valid as well.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*:"
_HOST_CHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_CHAR = rf"(?:{_HOST_CHAR}|@)"
_PATH = rf"(?:{_CHAR}|[:/])*"
_URI_REFERENCE = re.compile(
    rf"(?:(?:{_SCHEME})?//{_HOST_CHAR}+(?::[0-9]*)?(?:/{_PATH})?"  # with an authority
    rf"|{_SCHEME}(?!//)(?=.){_PATH}"  # urn:plant:3
    rf"|(?!//)(?:/{_PATH}|{_CHAR}+(?:/{_PATH})?))"  # relative: no colon in the first segment
    rf"(?:\?(?:{_CHAR}|[:/?])*)?(?:\#(?:{_CHAR}|[:/?])*)?"
)


class EventError(ValueError):
    """Bytes that are not an event; the message says what they lack."""


def event_message(event: AnomalyEvent, topic: str) -> Message:
    """The event in binary mode; keyed by its series, so that a series keeps its order."""
    headers = [
        (_HEADER_PREFIX + name, value.encode()) for name, value in _attributes(event).items()
    ]
    headers.append(("content-type", CONTENT_TYPE.encode()))
    return Message(topic, event.series.encode(), _json(event.body()), tuple(headers))


def event_line(event: AnomalyEvent) -> bytes:
    """The event in structured mode, with a newline at its end and nowhere else."""
    envelope = {
        **_attributes(event),
        "datacontenttype": CONTENT_TYPE,
        "data": event.body(),
    }
    return _json(envelope) + b"\n"


def parse_event_message(
    headers: Iterable[tuple[str, bytes | None]], value: bytes | None
) -> dict[str, Any]:
    """The body of an event from Kafka. Raises EventError where it is none."""
    body: dict[str, Any] = message_envelope(headers, value)["data"]
    return body


def parse_event_line(line: bytes | str) -> dict[str, Any]:
    """The body of an event from a file. Raises EventError where it is none."""
    body: dict[str, Any] = line_envelope(line)["data"]
    return body


def message_envelope(
    headers: Iterable[tuple[str, bytes | None]], value: bytes | None
) -> dict[str, Any]:
    """Attributes and body of an event from Kafka, as `line_envelope` has them."""
    texts = {name.lower(): (raw or b"").decode("utf-8", "replace") for name, raw in headers}
    envelope: dict[str, Any] = {
        name: texts[_HEADER_PREFIX + name] for name in _ATTRIBUTES if _HEADER_PREFIX + name in texts
    }
    envelope["datacontenttype"] = texts.get("content-type")
    envelope["data"] = _parsed(value or b"")
    return _checked(envelope)


def line_envelope(line: bytes | str) -> dict[str, Any]:
    """`specversion, id, source, type, time, subject, datacontenttype, data` of an event."""
    return _checked(_parsed(line))


def dead_letter(rejected: Rejected, topic: str) -> Message:
    """The record as it came, with what was wrong with it in the headers. Never fails."""
    record = rejected.record
    headers = [("dlq_reason", str(rejected.reason)), ("dlq_detail", rejected.detail)]
    if rejected.item is not None:
        headers.append(("dlq_index", str(rejected.item)))
    headers += [
        ("dlq_topic", record.topic),
        ("dlq_partition", str(record.partition)),
        ("dlq_offset", str(record.offset)),
        ("dlq_timestamp", str(record.timestamp)),
    ]
    encoded = tuple((name, text.encode("utf-8", "backslashreplace")) for name, text in headers)
    return Message(topic, record.key, record.value, encoded)


@lru_cache(maxsize=64)
def uri_reference(source: str) -> str:
    """A valid URI-reference: the source itself where it is one, else percent-encoded."""
    if _URI_REFERENCE.fullmatch(source):
        return source
    return quote(source, safe="/!$&'()*+,;=", errors="replace")


def _attributes(event: AnomalyEvent) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": uri_reference(event.source),
        "type": f"stream-detector.{event.kind.value}.{event.status.value}",
        "time": to_text(event.at),
        "subject": event.series,
    }


def _json(value: Any) -> bytes:
    """JSON in one line; NaN and infinity, which JSON cannot say, become null."""
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    """Numbers of numpy as numbers of Python; arrays are not expected in an event."""
    try:
        return value.item()
    except AttributeError:
        raise TypeError(f"{type(value).__name__} cannot stand in an event") from None


def _parsed(text: bytes | str) -> dict[str, Any]:
    try:
        parsed = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EventError(f"not an event: {error}") from error
    if not isinstance(parsed, dict):
        raise EventError(f"not an event: a JSON {type(parsed).__name__}, expected an object")
    return parsed


def _checked(envelope: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in (*_ATTRIBUTES, "data") if name not in envelope]
    if missing:
        raise EventError(f"not a CloudEvents 1.0 event: without {', '.join(missing)}")
    if not isinstance(envelope["data"], dict):
        raise EventError("not an event of this detector: `data` is not an object")
    return envelope
