"""Payloads that should never have been sent, among good ones; equal seeds give equal payloads.

Good samples belong to the neighbours. What is wrong for sure often bears a neighbour's name, and
must not touch it; what may come out as a sample by chance belongs to others.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T0 = 1_767_571_200_000
STEP = 100  # ms between two records
NEIGHBOURS = tuple(f"good/{n}" for n in range(50))
GOOD = 0.2  # share of the records
MAX_AHEAD = 3_600_000  # ms; the default of `time.max_ahead`

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
JUNK = [b"null", b"7", b'"x"', b"[]", b"{}", b"[[[]]]", b'{"series":"good/1"}', b"true", b"-0.0"]
BROKEN = [b"{", b'{"series":', b"\xff", b"nul", b'{"series":"good/2","timestamp":1,"value":}']


class Payload(NamedTuple):
    kind: str
    value: bytes | None
    key: bytes | None
    time: int  # ms, of the record
    good: tuple[bytes, ...]  # samples of neighbours, that must be accepted
    bad: bool  # something in it is wrong for sure: a letter, and nothing else is accepted


class Dice(random.Random):
    """With the names and texts that the kinds are made of."""

    def other(self) -> str:
        return f"evil-{self.randrange(10**6)}"

    def anyone(self) -> str:
        return self.choice(NEIGHBOURS) if self.random() < 0.5 else self.other()

    def line(self, series: str, time: int) -> bytes:
        value = self.gauss(0, 1) + (25 if self.random() < 0.003 else 0)
        shape = self.choice(('"value":%.3f', '"values":{"value":%.3f}', '"values":[%.3f]'))
        return f'{{"series":"{series}","timestamp":{time},{shape % value}}}'.encode()

    def number(self, text: str, time: int) -> bytes:
        """A sample with this in the place of its value or its time."""
        series = self.anyone()
        if self.random() < 0.3:
            return f'{{"series":"{series}","timestamp":{text},"value":1}}'.encode()
        many = self.choice(('"value":{}', '"values":{{"value":{}}}', '"values":[{}]')).format(text)
        return f'{{"series":"{series}","timestamp":{time},{many}}}'.encode()


Made = tuple[bytes | None, bool]
"""A value, and whether it is bad for sure."""


def truncated(dice: Dice, time: int) -> Made:
    text = dice.line(dice.anyone(), time)
    return text[: dice.randrange(len(text))], True


def flipped(dice: Dice, time: int) -> Made:
    data = bytearray(dice.line(dice.other(), time))
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data), False


def edited(dice: Dice, time: int) -> Made:
    data = bytearray(dice.line(dice.other(), time))
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(data))
        action = dice.randrange(3)
        if action == 0:
            data[at] = dice.randrange(256)
        elif action == 1:
            del data[at]
        else:
            data[at:at] = dice.randbytes(1)
    return bytes(data), False


def noise(dice: Dice, _time: int) -> Made:
    return dice.randbytes(dice.randrange(300)), True


def fixed(dice: Dice, _time: int) -> Made:
    found = dice.choice(FIXED)
    # The long ones now and then only: they are slow to make.
    return (found, True) if len(found or b"") < 1000 or dice.random() < 0.02 else (b"[", True)


def wrong_type(dice: Dice, time: int) -> Made:
    sample: dict[str, Any] = {"series": dice.other(), "timestamp": time, "value": 1.5}
    for _ in range(dice.randint(1, 2)):
        name = dice.choice(("series", "timestamp", "value", "values", "more"))
        sample[name] = dice.choice(VALUES)
    return json.dumps(sample).encode(), False


def missing(dice: Dice, time: int) -> Made:
    sample = {"series": dice.anyone(), "timestamp": time, "value": 1.5}
    for name in dice.sample(list(sample), dice.randint(1, 3)):
        del sample[name]
    return json.dumps(sample).encode(), True


def not_finite(dice: Dice, time: int) -> Made:
    text = dice.choice(("NaN", "Infinity", "-Infinity", "1e999", "-1e400"))
    return dice.number(text, time), True


def huge_number(dice: Dice, time: int) -> Made:
    return dice.number(dice.choice("123456789") * dice.randint(320, 3000), time), True


def nested(dice: Dice, time: int) -> Made:
    depth = dice.randint(2, 50) if dice.random() < 0.95 else dice.randint(900, 30_000)
    if dice.random() < 0.5:
        return dice.number("[" * depth + "]" * depth, time), True
    text = '{"a":' * depth + "1" + "}" * depth
    if dice.random() < 0.5:
        return dice.number(text, time), True
    return f'{{"series":"{dice.other()}","timestamp":{time},"value":1,"x":{text}}}'.encode(), False


def not_utf8(dice: Dice, time: int) -> Made:
    bad = dice.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"))
    series = dice.anyone().encode()
    at = dice.randrange(len(series) + 1)
    name = series[:at] + bad + series[at:]
    return b'{"series":"%b","timestamp":%d,"value":1}' % (name, time), True


def huge_key(dice: Dice, time: int) -> Made:
    long = dice.choice(("k", "\u20ac", "\\u0000", "\U0001f600")) * dice.randint(500, 5000)
    if dice.random() < 0.5:
        return f'{{"series":"{long}","timestamp":{time},"value":1}}'.encode(), len(long) > 3100
    sample = f'"series":"{dice.other()}","timestamp":{time},"value":1'
    return f'{{"{long}":1,{sample}}}'.encode(), False


def wrong_shape(dice: Dice, time: int) -> Made:
    values = dice.choice(
        (str([1.5] * dice.randint(2, 50)), '{"other":1}', "[[1]]", '{"value":{"value":1}}', "[]")
    )
    return f'{{"series":"{dice.anyone()}","timestamp":{time},"values":{values}}}'.encode(), True


def twice(dice: Dice, time: int) -> Made:
    """Names that stand there twice: the last one counts."""
    name = dice.choice(('"series":"x"', '"timestamp":1', '"value":null', '"values":{"value":"a"}'))
    sample = dice.line(dice.other(), time).decode()
    before, after = f"{{{name},{sample[1:]}", f"{sample[:-1]},{name}}}"
    return dice.choice((before, after)).encode(), False


def future(dice: Dice, time: int) -> Made:
    ahead = time + MAX_AHEAD + dice.choice((1, dice.randrange(1, 10**9), dice.randrange(1, 10**14)))
    return dice.line(dice.anyone(), ahead), True


def control(dice: Dice, time: int) -> Made:
    series = dice.anyone()
    at = dice.randrange(len(series) + 1)
    name = series[:at] + chr(dice.randrange(32)) + series[at:]
    return dice.line(name, time), True


def array(dice: Dice, _time: int) -> Made:
    """Of junk; now and then a gigantic one, within the limits and beyond them."""
    if dice.random() < 0.002:
        count = dice.choice((10_000, 10_001, 100_000))
        return b"[" + b",".join([dice.choice(JUNK)] * count) + b"]", True
    if dice.random() < 0.0002:
        return b'{"series":"%b","timestamp":1,"value":1}' % (b"x" * 1_100_000), True
    return b"[" + b",".join(dice.choices(JUNK, k=dice.randint(1, 30))) + b"]", True


KINDS: list[Callable[[Dice, int], Made]] = [
    truncated, flipped, edited, noise, fixed, wrong_type, missing, not_finite, huge_number, nested,
    not_utf8, huge_key, wrong_shape, twice, future, control, array,
]  # fmt: skip


def payloads(malformed: int, seed: int = 0) -> Iterator[Payload]:
    """Good ones among so many that are not; some records hold both."""
    dice = Dice(seed)
    number = made = 0
    while made < malformed:
        time = T0 + number * STEP
        number += 1
        if dice.random() < GOOD:
            yield _good(dice, time)
            continue
        made += 1
        at = dice.randrange(len(KINDS) + 1)
        if at == len(KINDS):
            yield _mixed(dice, time)
            continue
        kind = KINDS[at]
        value, sure = kind(dice, time)
        key = dice.choice((None, b"", b"good/1", dice.randbytes(8)))
        yield Payload(kind.__name__, value, key, time, (), sure)


def _several(dice: Dice, time: int, most: int) -> tuple[bytes, ...]:
    """Samples of one neighbour."""
    series = dice.choice(NEIGHBOURS)
    return tuple(dice.line(series, time + n) for n in range(dice.randint(1, most)))


def _good(dice: Dice, time: int) -> Payload:
    """One sample, an array, or lines; no two samples of a series have the same time."""
    style = dice.randrange(12)
    good = _several(dice, time, 12 if style < 2 else 1)
    value = b"[" + b",".join(good) + b"]" if style == 0 else b"\n".join(good)
    return Payload("good", value, b"g", time, good, bad=False)


def _mixed(dice: Dice, time: int) -> Payload:
    """Samples of a neighbour and what is none, in one array or as lines."""
    good = _several(dice, time, 3)
    lines = dice.random() < 0.5
    parts = dice.choices(JUNK + BROKEN if lines else JUNK, k=dice.randint(1, 4))
    at = 0
    for sample in good:  # in their order in time
        at = dice.randint(at, len(parts))
        parts.insert(at, sample)
        at += 1
    value = b"\n".join(parts) if lines else b"[" + b",".join(parts) + b"]"
    return Payload("mixed", value, b"g", time, good, bad=True)
