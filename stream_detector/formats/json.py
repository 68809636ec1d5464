"""JSON records -> samples. Pure: bytes in, values out, and never an exception whatever the bytes.

A record is one sample, an array of samples, or NDJSON lines. What the typed structs of `shapes`
accept is done; anything else is read again slowly, sample by sample, to save the good ones and to
say of each bad one what is wrong with it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.formats.layout import KEY, Layout
from stream_detector.formats.paths import Unusable, shown
from stream_detector.formats.pieces import BOM, SPACE
from stream_detector.formats.shapes import (
    LABEL,
    NUMBER,
    VECTOR,
    Leaf,
    Shape,
    moment,
    series_name,
    shape_of,
)
from stream_detector.records import Reason, Record, Rejected, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_detector.config import Fields

    Reader = Callable[[Any, Record, int | None], Sample]

LETTERS_PER_RECORD = 100
"""Bad samples of one record that are named one by one; the last letter counts the rest.

Every letter carries the whole record, so 10,000 of a record of 1 MB would be 10 GB."""

# msgspec's own, text that is not UTF-8, and nesting beyond the interpreter's limit.
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Unusable)
_LONGEST_INTEGER = 310  # digits; more are beyond the largest float


class JsonDecoder:
    """Decodes records by configured field paths.

    Raises ConfigError where the fields cannot be used. Limits: bytes of a record, samples in one
    record, characters of a series name; `earliest` is the least time of a sample, ms UTC.
    """

    def __init__(
        self,
        fields: Fields,
        *,
        max_record_bytes: int,
        max_samples: int,
        max_series_length: int,
        earliest: int = 0,
    ) -> None:
        self._max_record_bytes = max_record_bytes
        self._max_samples = max_samples
        self._layout = Layout(fields, max_series_length, earliest)
        shape = shape_of(_leaves(self._layout))
        # Paths that no struct can hold (one leads through another's value) all go the slow way.
        kind: Any = msgspec.Raw if shape is None else shape.type
        self._read = _refuse if shape is None else _reader(self._layout, shape)
        self._decode_one = msgspec.json.Decoder(kind).decode
        self._decode_many = msgspec.json.Decoder(list[kind]).decode
        self._parse_tree = json.JSONDecoder(parse_int=_integer).decode

    def decode(self, records: Sequence[Record]) -> tuple[list[Sample], list[Rejected]]:
        """Samples and rejections, each in the order of records and of the samples in them.

        Every record yields at least one of the two.
        """
        samples: list[Sample] = []
        rejected: list[Rejected] = []
        decode_one, decode_many, read = self._decode_one, self._decode_many, self._read
        max_bytes, max_samples = self._max_record_bytes, self._max_samples
        for record in records:
            value = record.value
            if value is None:
                rejected.append(Rejected(Reason.EMPTY, "the record has no value", record))
                continue
            if len(value) > max_bytes:
                detail = f"{len(value)} bytes, more than max_record_bytes {max_bytes}"
                rejected.append(Rejected(Reason.OVERSIZE, detail, record))
                continue
            value = value.removeprefix(BOM)
            try:
                if value.startswith(b"["):
                    found = decode_many(value)
                    if 0 < len(found) <= max_samples:
                        samples += [read(part, record, item) for item, part in enumerate(found)]
                        continue
                else:
                    samples.append(read(decode_one(value), record, None))
                    continue
            except _REFUSED:
                pass
            saved, lost = self._salvage(value, record)
            samples += saved
            rejected += lost
        return samples, rejected

    def _salvage(self, value: bytes, record: Record) -> tuple[list[Sample], list[Rejected]]:
        """What a record holds that the fast path could not take as a whole."""
        try:
            outcomes = self._outcomes(value.strip(SPACE), record)
        except Unusable as error:
            return [], [Rejected(error.reason, error.detail, record)]
        samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
        rejected = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
        rest = len(rejected) - LETTERS_PER_RECORD
        if rest > 0:
            del rejected[LETTERS_PER_RECORD:]
            last = rejected[-1]
            more = Unusable(last.reason, f"and {rest} more bad samples; {last.detail}")
            rejected[-1] = last._replace(detail=more.detail)
        return samples, rejected

    def _outcomes(self, text: bytes, record: Record) -> list[Sample | Rejected]:
        """One for each sample of the record. Raises Unusable where it fails as a whole."""
        if not text:
            raise Unusable(Reason.EMPTY, "the record holds only white space")
        lines = [line for line in text.split(b"\n") if line.strip(SPACE)]
        if len(lines) > 1 and self._is_sample(lines[0], record):
            return self._outcomes_of_lines(lines, record)
        try:
            tree = self._tree(text)
        except Unusable:
            # One broken document, unless one of its lines makes sense alone.
            if len(lines) == 1 or not any(self._is_object(line) for line in lines):
                raise
            return self._outcomes_of_lines(lines, record)
        if not isinstance(tree, list):
            return [self._outcome(tree, record, None)]
        if not tree:
            raise Unusable(Reason.EMPTY, "an array without samples")
        self._check_count(len(tree))
        return [self._outcome(part, record, item) for item, part in enumerate(tree)]

    def _outcomes_of_lines(self, lines: list[bytes], record: Record) -> list[Sample | Rejected]:
        self._check_count(len(lines))
        outcomes: list[Sample | Rejected] = []
        for item, line in enumerate(lines):
            try:
                outcomes.append(self._read(self._decode_one(line), record, item))
            except _REFUSED:
                try:
                    outcomes.append(self._outcome(self._tree(line), record, item))
                except Unusable as error:
                    outcomes.append(Rejected(error.reason, error.detail, record, item))
        return outcomes

    def _outcome(self, tree: Any, record: Record, item: int | None) -> Sample | Rejected:
        try:
            return self._layout.sample(tree, record, item)
        except Unusable as error:
            return Rejected(error.reason, error.detail, record, item)

    def _check_count(self, count: int) -> None:
        if count > self._max_samples:
            detail = f"{count} samples, more than max_samples_per_record {self._max_samples}"
            raise Unusable(Reason.OVERSIZE, detail)

    def _is_sample(self, line: bytes, record: Record) -> bool:
        try:
            self._read(self._decode_one(line), record, None)
        except _REFUSED:
            return False
        return True

    def _is_object(self, line: bytes) -> bool:
        try:
            return isinstance(self._tree(line), dict)
        except Unusable:
            return False

    def _tree(self, text: bytes) -> Any:
        """Any JSON, NaN and Infinity too; raises Unusable where it is none.

        Bytes that are not UTF-8 become lone surrogates, so that they harm only the sample whose
        names they stand in.
        """
        try:
            return self._parse_tree(text.decode("utf-8", "surrogateescape"))
        except json.JSONDecodeError as error:
            near = shown(error.doc[error.pos : error.pos + 20])
            detail = f"not JSON: {error.msg} at character {error.pos}: {near}"
            raise Unusable(Reason.MALFORMED, detail) from None
        except RecursionError:
            raise Unusable(Reason.MALFORMED, "nested too deeply") from None


def _leaves(layout: Layout) -> list[tuple[tuple[str, ...], Leaf]]:
    """What lies where, for the typed struct."""
    name = Leaf(series_name(layout.max_series_length), optional=False)
    if layout.template is not None:
        name = Leaf(LABEL, optional=False)
    leaves = [(path, name) for path in layout.series_paths if path != KEY]
    if layout.time_path is not None:
        leaves.append((layout.time_path, Leaf(moment(layout.time_unit), optional=False)))
    if layout.features:
        leaves += [(path, Leaf(NUMBER, optional=True)) for path in layout.features.values()]
    else:
        leaves.append((layout.values_path, Leaf(VECTOR, optional=True)))
        leaves.append((layout.value_path, Leaf(NUMBER, optional=True)))
    return leaves


def _reader(layout: Layout, shape: Shape) -> Reader:
    """A function from the typed struct to its sample; it raises Unusable, saying little."""
    # Everything is bound beforehand: this runs for every sample.
    name_of = _name_reader(layout, shape)
    values_of = _values_reader(layout, shape)
    time_of = (lambda _: None) if layout.time_path is None else shape.getter(layout.time_path)
    milliseconds = layout.time_unit == "ms"
    timestamp_of = layout.timestamp
    new = tuple.__new__  # half the time of Sample(...), a quarter of the whole

    def read(found: Any, record: Record, item: int | None) -> Sample:
        time = time_of(found)
        if time.__class__ is not int or not milliseconds:  # else the struct has checked its range
            time = timestamp_of(time, record)
        return new(Sample, (name_of(found, record), time, values_of(found), record, item))

    return read


def _name_reader(layout: Layout, shape: Shape) -> Callable[[Any, Record], str]:
    template, paths = layout.template, layout.series_paths
    if template is None:
        if paths[0] == KEY:
            return lambda _, record: layout.checked(layout.key(record))
        get_name = shape.getter(paths[0])
        return lambda found, _: get_name(found)
    pattern = "%s".join(text.replace("%", "%%") for text in template.texts)
    get_row = shape.row_getter([path for path in paths if path != KEY])
    if KEY not in paths:
        return lambda found, _: layout.checked(pattern % get_row(found))

    def fill_with_key(found: Any, record: Record) -> str:
        key, row = layout.key(record), iter(get_row(found))
        return layout.checked(pattern % tuple(key if path == KEY else next(row) for path in paths))

    return fill_with_key


def _values_reader(layout: Layout, shape: Shape) -> Callable[[Any], Any]:
    if layout.features:
        names = tuple(layout.features)
        get_row = shape.row_getter(list(layout.features.values()))

        def several(found: Any) -> dict[str, float | None]:
            row = get_row(found)
            if row.count(None) == len(row):
                raise Unusable(Reason.MISSING_FIELD, "no feature")
            return dict(zip(names, row, strict=True))

        return several
    get_both = shape.row_getter([layout.values_path, layout.value_path])

    def vector_or_number(found: Any) -> Any:
        vector, number = get_both(found)
        if vector is not None:
            return vector
        if number is None:
            raise Unusable(Reason.MISSING_FIELD, "no value")
        return number

    return vector_or_number


def _refuse(_found: Any, _record: Record, _item: int | None) -> Sample:
    raise Unusable(Reason.MALFORMED, "no fast path")


def _integer(digits: str) -> float:
    """An int, or infinity (never an exception) where it would be beyond the largest float."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
