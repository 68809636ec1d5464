"""The configured fields, and how a decoded JSON object becomes a sample by them, step by step.

This is the slow and explaining way, the meaning of the configuration; `shapes` only makes it fast.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from stream_detector.config import ConfigError
from stream_detector.formats.paths import (
    Path,
    Template,
    Unusable,
    look_up,
    path_of,
    shown,
    template_of,
)
from stream_detector.formats.timestamps import to_milliseconds
from stream_detector.records import Reason, Record, Sample

if TYPE_CHECKING:
    from stream_detector.config import Fields

KEY: Path = ("key",)
"""In `series` and `template` this path is the record's key, not a field of the sample."""


class Layout:
    """Fields with their paths taken apart. Raises ConfigError where they cannot be used."""

    def __init__(self, fields: Fields, max_series_length: int, earliest: int = 0) -> None:
        place = "input.fields"
        self._earliest = earliest
        self.max_series_length = max_series_length
        self.template: Template | None = None
        if fields.template is not None:
            self.template = template_of(fields.template, f"{place}.template")
            self.series_paths = self.template.paths
        elif fields.series is not None:
            self.series_paths = (path_of(fields.series, f"{place}.series"),)
        else:
            raise ConfigError(f"{place}: give `series` or `template`")
        self.time_unit = fields.time_unit
        self.time_path = (
            None if fields.timestamp is None else path_of(fields.timestamp, f"{place}.timestamp")
        )
        self._time_name = fields.timestamp or ""
        self.values_path = path_of(fields.values, f"{place}.values")
        self.value_path = path_of(fields.value, f"{place}.value")
        self.features = {
            name: path_of(path, f"{place}.features.{name}")
            for name, path in fields.features.items()
        }

    def sample(self, tree: Any, record: Record, item: int | None) -> Sample:
        """The sample in a decoded JSON value. Raises Unusable."""
        if not isinstance(tree, dict):
            raise Unusable(Reason.WRONG_TYPE, f"a sample must be an object, not {shown(tree)}")
        series = self._series(tree, record)
        timestamp = self.timestamp(
            None if self.time_path is None else look_up(tree, self.time_path), record
        )
        return Sample(series, timestamp, self._values(tree), record, item)

    def timestamp(self, value: Any, record: Record) -> int:
        """Of the value at `time_path`, or of the record where there is no such path; ms UTC."""
        if self.time_path is not None:
            if value is None:
                raise Unusable(Reason.MISSING_FIELD, f"no {self._time_name}")
            return to_milliseconds(value, self.time_unit, self._time_name, self._earliest)
        if record.timestamp < 0:
            raise Unusable(Reason.MISSING_FIELD, "the record itself has no timestamp")
        return to_milliseconds(record.timestamp, "ms", "the record's timestamp")

    def key(self, record: Record) -> str:
        """The record's key as text. Raises Unusable."""
        if record.key is None:
            raise Unusable(Reason.MISSING_FIELD, "the record has no key to take the series from")
        if not record.key:
            raise Unusable(Reason.BAD_SERIES, "the record's key is empty")
        try:
            return record.key.decode()
        except UnicodeDecodeError as error:
            detail = f"the record's key is not UTF-8 at byte {error.start}"
            raise Unusable(Reason.BAD_SERIES, detail) from None

    def checked(self, series: str) -> str:
        if not series:
            raise Unusable(Reason.BAD_SERIES, "the series name is empty")
        if len(series) > self.max_series_length:
            detail = (
                f"series {shown(series)} has {len(series)} characters, more than "
                f"max_series_length {self.max_series_length}"
            )
            raise Unusable(Reason.BAD_SERIES, detail)
        return series

    def _series(self, tree: dict[str, Any], record: Record) -> str:
        parts = [self._name(tree, path, record) for path in self.series_paths]
        return self.checked(parts[0] if self.template is None else self.template.fill(parts))

    def _name(self, tree: dict[str, Any], path: Path, record: Record) -> str:
        """The series name, or a part of it."""
        if path == KEY:
            return self.key(record)
        value = look_up(tree, path)
        name = ".".join(path)
        if value is None:
            raise Unusable(Reason.MISSING_FIELD, f"no {name}")
        if self.template is not None and value.__class__ is int:
            return str(value)
        if not isinstance(value, str):
            raise Unusable(Reason.WRONG_TYPE, f"{name} must be text, not {shown(value)}")
        if not value:
            raise Unusable(Reason.BAD_SERIES, f"{name} is empty")
        _require_unicode(value, name)
        return value

    def _values(
        self, tree: dict[str, Any]
    ) -> dict[str, float | None] | tuple[float | None, ...] | float:
        if self.features:
            return self._features(tree)
        name = ".".join(self.values_path)
        values = look_up(tree, self.values_path)
        if values is None:
            name = ".".join(self.value_path)
            value = _number(look_up(tree, self.value_path), name)
            if value is None:
                several = ".".join(self.values_path)
                raise Unusable(Reason.MISSING_FIELD, f"neither {several} nor {name}")
            return value
        if not isinstance(values, dict | list):
            detail = f"{name} must be an object or an array, not {shown(values)}"
            raise Unusable(Reason.WRONG_TYPE, detail)
        if not values:
            raise Unusable(Reason.MISSING_FIELD, f"{name} is empty")
        if isinstance(values, list):
            return tuple(_number(value, f"{name}[{i}]") for i, value in enumerate(values))
        for feature in values:
            _require_unicode(feature, f"a feature of {name}")
        return {feature: _number(value, f"{name}.{feature}") for feature, value in values.items()}

    def _features(self, tree: dict[str, Any]) -> dict[str, float | None]:
        values = {
            feature: _number(look_up(tree, path), ".".join(path))
            for feature, path in self.features.items()
        }
        if all(value is None for value in values.values()):
            paths = ", ".join(".".join(path) for path in self.features.values())
            raise Unusable(Reason.MISSING_FIELD, f"none of {paths}")
        return values


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if value.__class__ is not float and value.__class__ is not int:  # a bool is an int to Python
        raise Unusable(Reason.WRONG_TYPE, f"{name} must be a number, not {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Unusable(Reason.NON_FINITE, f"{name} is not a finite number: {shown(value)}")
    return number


def _require_unicode(text: str, name: str) -> None:
    """Halves of surrogate pairs, and bytes that were not UTF-8, cannot be written out again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        detail = f"{name} is not valid Unicode: {shown(text)}"
        raise Unusable(Reason.MALFORMED, detail) from None
