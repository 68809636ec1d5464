"""The bytes of each sample in a record that holds several. Pure, and exact to the byte."""

from __future__ import annotations

import json
import re

import msgspec

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
_SPACES = re.compile(r"[ \t\r\n]*")


_RAW = msgspec.json.Decoder(list[msgspec.Raw]).decode
# Where an element ends is all that matters; int() refuses thousands of digits.
_END_OF = json.JSONDecoder(parse_int=float).raw_decode


def pieces(value: bytes) -> list[bytes]:
    """Elements of an array, or lines of NDJSON, numbered as `Sample.item` numbers them."""
    text = value.removeprefix(BOM).strip(SPACE)
    if text.startswith(b"["):
        try:
            return [bytes(element) for element in _RAW(text)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        try:
            return _elements(text.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            pass  # no whole array: the decoder read lines as well
    lines = (line.strip(SPACE) for line in text.split(b"\n"))
    return [line for line in lines if line]


def _elements(text: str) -> list[bytes]:
    """Of an array in which NaN or broken text may stand. Raises ValueError where it is none."""
    found: list[bytes] = []
    at = 0
    while text[at : at + 1] == ("," if found else "["):
        start = _past_spaces(text, at + 1)
        _, end = _END_OF(text, start)
        found.append(text[start:end].encode("utf-8", "surrogateescape"))
        at = _past_spaces(text, end)
    if text[at:] != "]":
        raise ValueError("not an array")
    return found


def _past_spaces(text: str, at: int) -> int:
    match = _SPACES.match(text, at)
    return at if match is None else match.end()
