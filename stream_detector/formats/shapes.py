"""The fast path of JSON: paths -> one typed msgspec struct that decodes and validates in C.

What it accepts is right as it stands; of what it refuses, the slow path finds out why.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from stream_detector.formats.timestamps import LATEST, PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream_detector.formats.paths import Path

NUMBER: Any = float | None
LABEL: Any = Annotated[str, Meta(min_length=1)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
VECTOR: Any = (
    Annotated[dict[str, NUMBER], Meta(min_length=1)]
    | Annotated[tuple[NUMBER, ...], Meta(min_length=1)]
    | None
)


class Leaf(NamedTuple):
    """What lies at a path: a type that msgspec decodes, and whether it may be absent (None)."""

    type: Any
    optional: bool


class Shape(NamedTuple):
    type: type[msgspec.Struct]
    attributes: Mapping[Path, str]  # path -> the struct's own attribute, dotted

    def getter(self, path: Path) -> Callable[[Any], Any]:
        return attrgetter(self.attributes[path])

    def row_getter(self, paths: Sequence[Path]) -> Callable[[Any], tuple[Any, ...]]:
        """All of several values as a tuple, in one call."""
        if not paths:
            return lambda _: ()
        if len(paths) == 1:  # attrgetter returns the bare value then
            only = self.getter(paths[0])
            return lambda found: (only(found),)
        return attrgetter(*(self.attributes[path] for path in paths))


def series_name(longest: int) -> Any:
    return Annotated[str, Meta(min_length=1, max_length=longest)]


def moment(unit: str) -> Any:
    latest = min(LATEST * PER_SECOND[unit] // 1000, 2**63 - 1)  # what msgspec can compare with
    return Annotated[int, Meta(ge=0, le=latest)] | float | str


def shape_of(leaves: Sequence[tuple[Path, Leaf]]) -> Shape | None:
    """One struct for all leaves. None where two cannot live in one: all goes slowly then."""
    merged: dict[Path, Leaf] = {}
    for path, leaf in leaves:
        if merged.setdefault(path, leaf) != leaf:
            return None
    for path in merged:
        if any(path[:length] in merged for length in range(1, len(path))):
            return None
    attributes: dict[Path, str] = {}
    return Shape(_struct(merged, (), "", attributes), attributes)


def _struct(
    leaves: Mapping[Path, Leaf], at: Path, prefix: str, attributes: dict[Path, str]
) -> type[msgspec.Struct]:
    """The struct of the object at the path `at`; fills in the attributes below it."""
    depth = len(at)
    names = dict.fromkeys(path[depth] for path in leaves if path[:depth] == at)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    rename = {}
    for number, name in enumerate(names):
        attribute = f"field{number}"  # a JSON key need not be an identifier
        rename[attribute] = name
        here = (*at, name)
        leaf = leaves.get(here)
        if leaf is not None:
            attributes[here] = prefix + attribute
            fields.append((attribute, leaf.type, None) if leaf.optional else (attribute, leaf.type))
            continue
        inner = _struct(leaves, here, f"{prefix}{attribute}.", attributes)
        below = (leaf for path, leaf in leaves.items() if path[: depth + 1] == here)
        if all(leaf.optional for leaf in below):
            fields.append((attribute, inner, msgspec.field(default_factory=inner)))
        else:
            fields.append((attribute, inner))
    # Decoded trees hold no cycles; untracked, they cost the collector nothing.
    return msgspec.defstruct("Shape", fields, rename=rename, kw_only=True, gc=False)
