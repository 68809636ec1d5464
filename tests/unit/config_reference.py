"""Writes a reference file from the structs of a configuration; config/ must hold just that.

python -m tests.unit.config_reference > config/detector.yaml
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import types
import typing
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from stream_detector.config import DetectorConfig, Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADER = """\
# stream-detector run --config detector.yaml
#
# Every key of the detector. A key behind a # shows its default: take the # away to change it, and
# that of its section too. Lines without # have no default: fill them in. Unknown keys are refused.
# ${NAME} in any string is taken from the environment. Durations: a number and ms, s, m, h or d.
"""

EXAMPLES: dict[str, Any] = {
    "kafka.bootstrap_servers": ["localhost:9092"],
    "kafka.group_id": "stream-detector",
    "input.topics": ["sensors"],
    "output.topic": "anomalies",
    "output.dead_letter_topic": "dead-letters",
    "model.registry": "registry",
}
"""What stands where there is no default. `model` is here because it or `models` must be given."""

HINTS = {
    "models": '[{match: "pump-*", registry: DIR}, {match: "*", registry: DIR}]',
    "threshold": "{level: 4.0} | {quantile: 0.999} | {sigma: 4.0} | {error: 0.8}",
    "input.fields.features": "{temperature: payload.temp, vibration: payload.vib}",
}
"""How a value is written that is more than a word or a number."""

WIDTH = 100


def reference(section: type[Section], examples: Mapping[str, Any], header: str) -> str:
    return header + "\n".join(_lines(section, "", examples)) + "\n"


def uncommented(text: str) -> str:
    """The reference file with every key live: `#key: value` -> `key: value`, prose left alone."""
    return re.sub(r"^( *)#(?=[^ #\n])", r"\1", text, flags=re.MULTILINE)


def _lines(section: type[Section], path: str, examples: Mapping[str, Any]) -> Iterator[str]:
    depth = path.count(".") + bool(path)
    hints = typing.get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        place = f"{path}.{field.name}" if path else field.name
        inner = _section(hints[field.name])
        live = any(each == place or each.startswith(f"{place}.") for each in examples)
        if not depth:
            yield ""
        yield from _prose(_description(hints[field.name]), depth)
        mark = "  " * depth + ("" if live else "#")
        default = _default(field)
        if inner is not None and (live or default is not None):
            yield f"{mark}{field.name}:"
            yield from _lines(inner, place, examples)
            continue
        if inner is not None:
            nested = typing.get_type_hints(inner, include_extras=True)
            for name in nested:
                yield from _prose(f"  {name}: {_description(nested[name])}", depth)
        value = examples.get(place, default)
        choices = HINTS.get(place) or " | ".join(_choices(hints[field.name]))
        yield f"{mark}{field.name}: {_scalar(value)}" + (f" # {choices}" if choices else "")


def _default(field: Any) -> Any:
    """None where the field is required."""
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _prose(text: str, depth: int) -> Iterator[str]:
    start = "  " * depth + "# "
    indent = " " * (len(text) - len(text.lstrip()))
    for line in textwrap.wrap(text.strip(), WIDTH - len(start) - len(indent)):
        yield start + indent + line


def _scalar(value: Any) -> str:
    """YAML on one line; JSON is YAML, and words need no quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][\w.:-]*", value):
        return value
    return json.dumps(value)


def _description(hint: Any) -> str:
    texts = [part.description for part in hint.__metadata__ if isinstance(part, msgspec.Meta)]
    return next(text for text in texts if text)


def _parts(hint: Any) -> Iterator[Any]:
    """The hint without its annotations, and the members of a union."""
    if typing.get_origin(hint) is typing.Annotated:
        yield from _parts(typing.get_args(hint)[0])
    elif typing.get_origin(hint) in {types.UnionType, typing.Union}:
        for each in typing.get_args(hint):
            yield from _parts(each)
    else:
        yield hint


def _section(hint: Any) -> type[Section] | None:
    parts = [part for part in _parts(hint) if isinstance(part, type)]
    return next((part for part in parts if issubclass(part, Section)), None)


def _choices(hint: Any) -> list[str]:
    literals = [part for part in _parts(hint) if typing.get_origin(part) is Literal]
    names = [name for part in literals for name in typing.get_args(part)]
    return names if len(names) > 1 else []


if __name__ == "__main__":
    sys.stdout.write(reference(DetectorConfig, EXAMPLES, HEADER))
