"""YAML -> sections, with the environment's values filled in. Bytes in, structs out."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml
from msgspec import inspect

from stream_detector.config.kinds import ConfigError, Section

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class _Loader(yaml.SafeLoader):
    """PyYAML's YAML 1.1, but 1e-4 is a number, as YAML 1.2 has it and people write it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


T = TypeVar("T", bound=Section)


def load_yaml(path: Path, into: type[T], environment: Mapping[str, str] | None = None) -> T:
    """Read a YAML file into a section. Raises ConfigError with file, place and remedy."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: {reason}") from error
    return parse_yaml(text, into, str(path), environment)


def parse_yaml(
    text: str,
    into: type[T],
    name: str = "configuration",
    environment: Mapping[str, str] | None = None,
) -> T:
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506  # it is a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{name}: expected keys and values at the top")
    try:
        filled = _substitute(raw, os.environ if environment is None else environment)
        return msgspec.convert(filled, type=into)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}{_meant(str(error), into)}") from error
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _meant(error: str, into: type[Section]) -> str:
    """The key that is most like one that is not known; nothing for other errors."""
    unknown = re.search("unknown field `(.+?)`", error)
    if unknown is None:
        return ""
    others = _keys(inspect.type_info(into)) - {unknown[1]}
    near = difflib.get_close_matches(unknown[1], sorted(others), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _keys(kind: Any) -> set[str]:
    """Of a section and of those in it."""
    if isinstance(kind, inspect.StructType):
        own = {field.encode_name for field in kind.fields}
        return own.union(*(_keys(field.type) for field in kind.fields))
    if isinstance(kind, inspect.UnionType):
        return set().union(*map(_keys, kind.types))
    if isinstance(kind, inspect.Metadata):
        return _keys(kind.type)
    if isinstance(kind, inspect.ListType):
        return _keys(kind.item_type)
    return _keys(kind.value_type) if isinstance(kind, inspect.DictType) else set()


def _substitute(value: Any, environment: Mapping[str, str]) -> Any:
    """`${NAME}` in any string -> the environment's value."""
    if isinstance(value, str):

        def lookup(match: re.Match[str]) -> str:
            if match[1] not in environment:
                raise ConfigError(f"environment variable {match[1]} is not set")
            return environment[match[1]]

        return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lookup, value)
    if isinstance(value, dict):
        return {key: _substitute(part, environment) for key, part in value.items()}
    if isinstance(value, list):
        return [_substitute(part, environment) for part in value]
    return value
