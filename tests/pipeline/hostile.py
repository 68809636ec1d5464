"""Payloads that should never have been sent, among good ones; equal seeds give equal payloads."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.pipeline.loop_case import T0

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUES: list[Any] = [
    None, True, "", "7", "\x00", "x" * 3000, [], {}, [[]], {"a": {}}, -1, 0, 2**63, -(2**63),
    1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf"), 10**400, "9" * 400,
    "\ud800", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-05T24:00:00Z",
    253_402_300_800_000, 4_070_908_800_000, [None, None], [1, [2]], {"a": None}, {"a": "b"},
]  # fmt: skip
FIXED: list[bytes | None] = [
    None, b"", b" \n\t", b"\x00", b"\xef\xbb\xbf", b"[]", b"[[]]", b"{}", b"null", b"NaN", b"1e999",
    b'"', b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe\x00", b"}{", b"[{},{},{}]", b"\n\n{}\n{}",
    b'{"series":"\\ud800","timestamp":1,"value":1}',
    b'{"series":"evil-\xff","timestamp":1,"value":1}',
    b'{"series":"","timestamp":1,"value":1}', b'{"series":"evil","timestamp":1e400,"value":1}',
]  # fmt: skip


class Payload(NamedTuple):
    value: bytes | None
    key: bytes | None
    time: int  # ms, of the record
    good: int  # samples that must be accepted; 0: a bad record
    surely_bad: bool = False  # no reading of it gives a sample


def payloads(count: int, seed: int = 0) -> Iterator[Payload]:
    """Half good, half not. Good and bad ones belong to different series."""
    dice = random.Random(seed)
    for number in range(count):
        time = T0 + number * 100
        if dice.random() < 0.5:
            yield _good(dice, number, time)
        else:
            value, sure = _bad(dice, time)
            key = dice.choice([None, b"", dice.randbytes(8)])
            yield Payload(value, key, time, 0, sure)


def _sample(series: str, time: int, dice: random.Random) -> dict[str, Any]:
    sample: dict[str, Any] = {"series": series, "timestamp": time}
    shape = dice.randrange(3)
    value = round(dice.gauss(0, 1), 3)
    if shape == 0:
        return sample | {"value": value}
    return sample | {"values": {"value": value} if shape == 1 else [value]}


def _good(dice: random.Random, number: int, time: int) -> Payload:
    """One sample, an array, or lines; no two samples of a series have the same time."""
    kind, series = dice.randrange(6), f"good/{number % 50}"
    if kind > 1:
        return Payload(json.dumps(_sample(series, time, dice)).encode(), b"g", time, 1)
    size = dice.randint(2, 20)
    many = [_sample(series, time + n, dice) for n in range(size)]
    text = json.dumps(many) if kind == 0 else "\n".join(map(json.dumps, many))
    return Payload(text.encode(), b"g", time, size)


def _bad(dice: random.Random, time: int) -> tuple[bytes | None, bool]:
    """Bytes, and whether they are bad for sure."""
    sample = _sample(f"evil-{dice.randrange(10**6)}", time, dice)
    text = json.dumps(sample).encode()
    kind = dice.randrange(20)
    if kind == 0:
        at = dice.randrange(len(FIXED))
        # The long ones now and then only: they are slow to make.
        return FIXED[at] if len(FIXED[at] or b"") < 1000 or dice.random() < 0.05 else b"[", True
    if kind < 5:
        return dice.randbytes(dice.randrange(300)), True
    if kind < 10:
        return text[: dice.randrange(len(text))], True
    if kind < 15:
        return _mutated(dice, text), False
    for _ in range(dice.randint(1, 2)):
        name = dice.choice([*sample, "series", "timestamp", "value", "values", "more"])
        if dice.random() < 0.3:
            sample.pop(name, None)
        else:
            sample[name] = dice.choice(VALUES)
    if kind < 18:
        return json.dumps(sample).encode(), False
    many = [sample, _sample("evil-neighbour", time, dice), dice.choice(VALUES)]
    dice.shuffle(many)
    return json.dumps(many).encode(), False


def _mutated(dice: random.Random, text: bytes) -> bytes:
    data = bytearray(text)
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(data))
        action = dice.randrange(3)
        if action == 0:
            data[at] = dice.randrange(256)
        elif action == 1:
            del data[at]
        else:
            data[at:at] = dice.randbytes(1)
    return bytes(data)
