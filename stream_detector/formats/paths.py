"""Where in a decoded JSON sample each part lies: dotted paths, templates, and what went wrong.

Only lookups in plain dicts and the words for people; no bytes are parsed here.
"""

from __future__ import annotations

from string import Formatter
from typing import Any, NamedTuple

from stream_detector.config import ConfigError
from stream_detector.records import Reason

Path = tuple[str, ...]
"""The keys from the sample's top down to the value: `tags.host` -> ("tags", "host")."""

DETAIL_LENGTH = 199
_SHOWN_LENGTH = 60


class Unusable(Exception):  # noqa: N818 - bad input is a value in the end; this carries it there
    """One sample cannot be used; becomes a `Rejected` before it leaves the formats."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = shorten(detail, DETAIL_LENGTH)
        super().__init__(self.detail)


def shorten(text: str, length: int) -> str:
    """At most `length` characters that can always be encoded as UTF-8."""
    kept = text[: length + 1].encode("utf-8", "backslashreplace").decode()
    return kept if len(kept) <= length else kept[: length - 3] + "..."


def shown(value: Any) -> str:
    """A decoded JSON value in few words, for the detail of a dead letter."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return shorten(repr(value[:_SHOWN_LENGTH]), _SHOWN_LENGTH)
        case _:
            return shorten(repr(value), _SHOWN_LENGTH)


def path_of(dotted: str, place: str) -> Path:
    """`tags.host` -> ("tags", "host"). Raises ConfigError, naming the `place`."""
    path = tuple(dotted.split("."))
    if not all(path):
        raise ConfigError(
            f"{place}: {dotted!r} is not a path; write names with dots, like tags.host"
        )
    return path


def look_up(tree: dict[str, Any], path: Path) -> Any:
    """The value at the path, or None where it or a part of the way is absent or null.

    Raises Unusable where the way leads through something that is not an object.
    """
    value: Any = tree
    for depth, name in enumerate(path):
        if value is None:
            return None
        if not isinstance(value, dict):
            parent = ".".join(path[:depth])
            raise Unusable(Reason.WRONG_TYPE, f"{parent} must be an object, not {shown(value)}")
        value = value.get(name)
    return value


class Template(NamedTuple):
    """A series name with holes: texts[0] + value of paths[0] + texts[1] + ... + texts[-1]."""

    texts: tuple[str, ...]  # one more than paths
    paths: tuple[Path, ...]

    def fill(self, values: list[str]) -> str:
        parts = [self.texts[0]]
        for value, text in zip(values, self.texts[1:], strict=True):
            parts += (value, text)
        return "".join(parts)


def template_of(template: str, place: str) -> Template:
    """`{tags.host}/{name}` -> Template; `{{` and `}}` are braces. Raises ConfigError."""
    texts = [""]
    paths = []
    try:
        for text, path, form, conversion in Formatter().parse(template):
            texts[-1] += text
            if path is None:
                continue
            if form or conversion:
                raise ConfigError(
                    f"{place}: {{{path}}} takes no conversion or format; leave it out"
                )
            paths.append(path_of(path, place))
            texts.append("")
    except ValueError as error:
        raise ConfigError(
            f"{place}: {template!r}: {error}; write {{path}} for each part"
        ) from error
    return Template(tuple(texts), tuple(paths))
