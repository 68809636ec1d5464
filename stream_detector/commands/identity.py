"""A name that a worker keeps over restarts, and shares with no other: its transactional id."""

from __future__ import annotations

import fcntl
import platform
import tempfile
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stream_detector.config import ConfigError
from stream_detector.records import digest

if TYPE_CHECKING:
    from contextlib import ExitStack

    from stream_detector.config import Kafka


def transactional_id(kafka: Kafka, stack: ExitStack, folder: Path | None = None) -> str:
    """The configured one, or one from the group and the worker's name or number on this host.

    The number is the least that no other process here holds by a lock in `folder` (the system's
    for temporary files), until `stack` or the process ends: who is restarted gets its own again.
    Raises ConfigError where that folder cannot be written.
    """
    if kafka.transactional_id is not None:
        return kafka.transactional_id
    if kafka.group_instance_id is not None:
        return f"{kafka.group_id}-{kafka.group_instance_id}"
    folder = folder or Path(tempfile.gettempdir())
    group = digest("transactional id", kafka.group_id)[:12]
    for number in count():
        path = folder / f"stream-detector-{group}-{number}.lock"
        try:
            held = _lock(path)
        except OSError as error:
            raise ConfigError(
                f"kafka.transactional_id: set one for each worker, for {path} cannot be locked: "
                f"{error.strerror}"
            ) from error
        if held is not None:
            stack.callback(held.close)
            return f"{kafka.group_id}-{platform.node()}-{number}"
    raise AssertionError("unreachable")


def _lock(path: Path) -> IO[bytes] | None:
    """The file, locked; None where another process has it. Never deleted: a lock is on a file."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file
