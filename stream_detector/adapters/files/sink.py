"""Events and dead letters as lines of files and of stdout."""

from __future__ import annotations

import base64
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec

from stream_detector.ports import SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream_detector.ports import Ended
    from stream_detector.records import Message


class PipeClosedError(SinkError):
    """Whoever read our stdout has left (`| head`): stop, without a complaint."""


class FileSink:
    """Events as CloudEvents in structured JSON, one a line; dead letters, one a line, apart.

    A file appears whole, at close; `-` is stdout, written at every flush. Without a path for dead
    letters they are counted alone.
    """

    def __init__(
        self,
        path: Path | Literal["-"],
        dead_letters: Path | None = None,
        *,
        stdout: IO[bytes] | None = None,
    ) -> None:
        """Raises SinkError where a file cannot be written."""
        if path != "-" and dead_letters is not None and path == dead_letters:
            raise SinkError(f"{path}: events and dead letters need two files")
        self.events = 0
        self.dead_letters = 0
        self._events: _FileLines | _StreamLines
        if path == "-":
            self._events = _StreamLines(sys.stdout.buffer if stdout is None else stdout)
        else:
            self._events = _FileLines(Path(path))
        self._letters = None if dead_letters is None else _FileLines(dead_letters)

    @property
    def unseen(self) -> bool:
        return False

    def ended(self) -> Sequence[Ended]:
        return ()

    def send(self, message: Message) -> None:
        headers = {name: value.decode("utf-8", "replace") for name, value in message.headers}
        if "dlq_reason" in headers:
            self.dead_letters += 1
            if self._letters is not None:
                self._letters.write(_line(_dead_letter(message, headers)))
        else:
            self.events += 1
            self._events.write(_line(_cloud_event(message, headers)))

    def flush(self) -> None:
        """Raises SinkError where the disk is full, PipeClosedError where nobody reads stdout."""
        self._events.flush()
        if self._letters is not None:
            self._letters.flush()

    def close(self) -> None:
        """Flush, and let the files appear under their names."""
        if self._letters is not None:
            self._letters.close()
        self._events.close()

    def discard(self) -> None:
        """Remove files that were not closed: an error came first, they are not whole."""
        for lines in (self._letters, self._events):
            if lines is not None:
                lines.discard()


_encode = msgspec.json.Encoder().encode


def _line(document: dict[str, Any]) -> bytes:
    return _encode(document) + b"\n"


def _cloud_event(message: Message, headers: Mapping[str, str]) -> dict[str, Any]:
    """Binary content mode -> structured, as CloudEvents 1.0 defines both."""
    attributes = {
        name.removeprefix("ce_"): text for name, text in headers.items() if name.startswith("ce_")
    }
    usual = ("specversion", "id", "source", "type", "time", "subject")
    document: dict[str, Any] = {name: attributes.pop(name, None) for name in usual}
    document = {name: text for name, text in document.items() if text is not None}
    document |= attributes
    document["datacontenttype"] = headers.get("content-type", "application/json")
    if message.value is not None:
        try:
            document["data"] = msgspec.json.decode(message.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            document["data_base64"] = base64.b64encode(message.value).decode()
    return document


def _dead_letter(message: Message, headers: Mapping[str, str]) -> dict[str, Any]:
    """`key` and `value` as text, or as `key_base64`, `value_base64` where they are not UTF-8."""
    document: dict[str, Any] = {
        "reason": headers["dlq_reason"],
        "detail": headers.get("dlq_detail"),
        "index": _integer(headers.get("dlq_index")),
        "topic": headers.get("dlq_topic"),
        "partition": _integer(headers.get("dlq_partition")),
        "offset": _integer(headers.get("dlq_offset")),
        "timestamp": _integer(headers.get("dlq_timestamp")),
    }
    for name, content in (("key", message.key), ("value", message.value)):
        try:
            document[name] = None if content is None else content.decode()
        except UnicodeDecodeError:
            document[f"{name}_base64"] = base64.b64encode(content or b"").decode()
    return document


def _integer(text: str | None) -> int | str | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return text or None


class _FileLines:
    """Lines under a hidden name until close; devices and named pipes are written at once."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        special = self._path.exists() and not self._path.is_file()
        self._written = self._path if special else self._path.with_name(f".{self._path.name}.part")
        try:
            self._file = self._written.open("wb")
        except OSError as error:
            raise SinkError(
                f"{path}: {error.strerror}; name a file in a folder that exists"
            ) from error

    def write(self, line: bytes) -> None:
        self._guard(lambda: self._file.write(line))

    def flush(self) -> None:
        self._guard(self._file.flush)

    def close(self) -> None:
        if self._file.closed:
            return
        self._guard(self._file.close)
        if self._written != self._path:
            self._guard(lambda: self._written.replace(self._path))

    def discard(self) -> None:
        if self._file.closed:
            return
        with suppress(OSError):
            self._file.close()
        if self._written != self._path:
            self._written.unlink(missing_ok=True)

    def _guard(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}; what was written is lost") from error


class _StreamLines:
    """Lines to stdout, which stays open."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = False

    def write(self, line: bytes) -> None:
        self._guard(lambda: self._stream.write(line))

    def flush(self) -> None:
        self._guard(self._stream.flush)

    def close(self) -> None:
        if not self._left:
            self._guard(self._stream.flush)

    def discard(self) -> None:
        """What was written to a stream is out."""

    def _guard(self, action: Callable[[], object]) -> None:
        if self._left:
            raise PipeClosedError("stdout was closed by its reader")
        try:
            action()
        except BrokenPipeError as error:
            self._left = True
            # Python flushes stdout once more as it exits, and would complain.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            raise PipeClosedError("stdout was closed by its reader") from error
        except OSError as error:
            raise SinkError(f"stdout: {error.strerror}") from error
