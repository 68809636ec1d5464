"""A record is cut into its samples so that each decodes to what it was within the record."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from stream_detector.config import Fields
from stream_detector.formats.json import JsonDecoder
from stream_detector.formats.pieces import pieces
from stream_detector.records import Record

NAMES = st.text(min_size=1, max_size=8)
SAMPLES = st.builds(
    lambda name, time, value: {"series": name, "timestamp": time, "value": value},
    NAMES,
    st.integers(0, 10**12),
    st.floats(allow_nan=True, allow_infinity=True) | st.none() | st.text(max_size=3),
)
DECODER = JsonDecoder(Fields(), max_record_bytes=10**6, max_samples=1000, max_series_length=10)


def record(value: bytes) -> Record:
    return Record("t", 0, 0, 0, b"k", value)


@given(
    parts=st.lists(SAMPLES, min_size=1, max_size=6),
    lines=st.booleans(),
    spaces=st.sampled_from(["", " ", "\r\n\t "]),
    torn=st.integers(0, 20),
    bom=st.booleans(),
)
@example(
    parts=[{"series": "a", "timestamp": 1, "value": 10**400}],
    lines=False,
    spaces="",
    torn=0,
    bom=False,
)
def test_a_piece_decodes_to_the_sample_that_it_was_within_its_record(
    parts: list[dict[str, object]], *, lines: bool, spaces: str, torn: int, bom: bool
) -> None:
    texts = [json.dumps(part, ensure_ascii=False) for part in parts]
    gap = "" if lines else spaces
    text = "\n".join(texts) if lines else f"[{gap}{f'{gap},{gap}'.join(texts)}{gap}]"
    value = (b"\xef\xbb\xbf" if bom else b"") + text.encode("utf-8", "surrogatepass")
    value = value[: len(value) - torn] if lines else value
    samples, _ = DECODER.decode([record(value)])
    found = pieces(value)
    for sample in samples:
        if sample.item is not None:
            (again,), rejected = DECODER.decode([record(found[sample.item])])
            assert not rejected
            assert again[:3] == sample[:3]


def test_bytes_that_are_no_text_stay_in_their_piece_and_the_others_are_exact() -> None:
    good = b'{"series":"a","timestamp":1,"value":1.50}'
    bad = b'{"series":"\xff","timestamp":1,"value":NaN}'
    assert pieces(b"[" + good + b",\n" + bad + b"," + good + b"]") == [good, bad, good]
