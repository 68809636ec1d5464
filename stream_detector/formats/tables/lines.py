"""Bytes in pieces -> lines, in bounded memory. Pure."""

from __future__ import annotations

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes; the rest of a longer line is dropped. Far beyond what the decoder accepts."""


class LineSplitter:
    """Cuts at line feeds, wherever the pieces end. Lines come without their line end."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False

    def push(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes."""
        *complete, rest = piece.split(b"\n")
        lines = []
        for part in complete:
            self._hold(part)
            if not self._skipping:
                lines.append(self._take())
            self._skipping = False
        self._hold(rest)
        if self._held > self._longest:
            lines.append(self._take()[: self._longest])
            self._skipping = True
        return lines

    def finish(self) -> list[bytes]:
        """The last line, where no line end follows it."""
        return [self._take()] if self._held else []

    def _hold(self, part: bytes) -> None:
        if part and not self._skipping:
            self._parts.append(part)
            self._held += len(part)

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts, self._held = [], 0
        return line.removesuffix(b"\r")
