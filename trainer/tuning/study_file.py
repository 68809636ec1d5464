"""The file of a study while it is in use: one process at a time, and whole lines only.

optuna appends a line of JSON for each thing that happens. What a crash can leave is a last line
without its end.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stream_detector.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEGINNING = b'{"op_code"'
"""Of every line."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other processes away, and take off a line without its end; makes the file if need be.

    Raises ConfigError where another process holds it, or it holds something else than a study.
    """
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{path}: another process tunes with this study; give another --study"
            ) from error
        content = path.read_bytes()
        if not content.startswith(BEGINNING[: len(content)]):
            raise ConfigError(f"{path}: not a study of stream-trainer tune; give another --study")
        os.truncate(path, content.rfind(b"\n") + 1)
        yield
