"""The search space of `tune`: dotted keys and values -> recipes, and a recipe -> YAML.

    base + chosen values --merge--> keys and values --msgspec--> TrainerConfig --to_yaml--> file

How values are chosen is not known here.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.config import ConfigError, Section
from trainer import models
from trainer.config import TrainerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.config.tune import Dimension

OPTIONS = "model.options."
GIVEN = (
    "data",
    "split",
    "refresh",
    "tune",
    "calibration.alarm_budget",
    "calibration.threshold",
)
"""What every trial is measured by; trials that differ in it could not be compared."""
SHAPES = ("experts", "windows", "windows.scales", "windows.span", "windows.transforms")
AFTERWARDS = ("experts", "calibration")
"""What comes after the fit, and leaves its error as it is."""
INNER = 0.6180339887
"""A place in a range that is no whole number, to see whether a key takes others."""


class Space:
    """The keys to search and the recipe around them. Raises ConfigError where they don't fit."""

    def __init__(self, base: TrainerConfig) -> None:
        self._base = base
        self._contract = contract(base)
        found = base.tune.space
        if not found:
            raise ConfigError(
                "tune.space: name what to search, e.g. fit.learning_rate: "
                "{low: 1e-3, high: 2e-2, log: true}"
            )
        # Which options there are follows from the architecture, so that is chosen before them.
        order = sorted(found, key=lambda path: path.startswith(OPTIONS))
        self.dimensions = {path: found[path] for path in order}
        for path in self.dimensions:
            self._check_path(path)
        for path, dimension in self.dimensions.items():
            for value in _samples(dimension):
                self._check_value(path, value)

    def recipe(self, chosen: Mapping[str, Any]) -> TrainerConfig:
        """The base with these values. Raises ConfigError for an unknown key or a wrong value."""
        return merged(self._base, chosen)

    def applies(self, path: str, chosen: Mapping[str, Any]) -> bool:
        """Whether the architecture that is chosen knows this option; other keys always apply."""
        if not path.startswith(OPTIONS):
            return True
        name = chosen.get("model.name", self._base.model.name)
        return _option(path) in models.MODELS[name].options.__struct_fields__

    def grid(self, most: int) -> list[dict[str, Any]]:
        """The first combinations of all values. Raises ConfigError for a range without steps."""
        columns: list[Sequence[Any]] = []
        for path, dimension in self.dimensions.items():
            candidates = dimension.candidates()
            if candidates is None:
                raise ConfigError(f"tune.space: {path}: a grid needs `values`, or a `step`")
            columns.append(candidates)
        found: list[dict[str, Any]] = []
        for values in itertools.product(*columns):
            point = dict(zip(self.dimensions, values, strict=True))
            point = {path: value for path, value in point.items() if self.applies(path, point)}
            if point not in found:
                found.append(point)
            if len(found) == most:
                break
        return found

    def shapes(self) -> list[dict[str, Any]]:
        """What to choose to see every length that windows may have."""
        varied = [path for path in self.dimensions if path in SHAPES]
        columns = [_samples(self.dimensions[path]) for path in varied]
        return [dict(zip(varied, values, strict=True)) for values in itertools.product(*columns)]

    def _check_path(self, path: str) -> None:
        for other in self.dimensions:
            if path.startswith(f"{other}."):
                raise ConfigError(f"tune.space: {path} lies within {other}; leave one of them out")
        for given in GIVEN:
            if f"{path}.".startswith(f"{given}.") or given.startswith(f"{path}."):
                raise ConfigError(
                    f"tune.space: {path}: {given} is what all trials have in common; "
                    "it cannot be searched"
                )
        like = self._base.tune.objective == "validation_error"
        if like and path.partition(".")[0] in AFTERWARDS:
            raise ConfigError(f"tune.space: {path} does not change the validation error")

    def _check_value(self, path: str, value: Any) -> None:
        problem = self._problem(path, value)
        if problem is not None:
            raise ConfigError(f"tune.space: {path}: {_short(value)}: {problem}")

    def _problem(self, path: str, value: Any) -> str | None:
        like = self._base.tune.objective == "validation_error"
        try:
            found = {contract(recipe) for recipe in self._around(path, value)}
        except ConfigError as error:
            return str(error)
        if like and found != {self._contract}:
            return (
                "validation errors cannot be compared across it; set tune.objective to "
                "average_precision or recall"
            )
        return None

    def _around(self, path: str, value: Any) -> Iterator[TrainerConfig]:
        """Recipes with this value; an option in every architecture that may be and knows it."""
        if not path.startswith(OPTIONS):
            yield self.recipe({path: value})
            return
        varied = self.dimensions.get("model.name")
        names = _samples(varied) if varied else [self._base.model.name]
        knowing = [name for name in names if self.applies(path, {"model.name": name})]
        if not knowing:
            raise ConfigError(f"no option of {', '.join(names)}")
        for name in knowing:
            yield self.recipe({"model.name": name, path: value})


def merged(base: TrainerConfig, chosen: Mapping[str, Any]) -> TrainerConfig:
    """Put values at dotted keys. Raises ConfigError where that makes no configuration."""
    tree: dict[str, Any] = msgspec.to_builtins(base)
    for path, value in chosen.items():
        *sections, last = path.split(".")
        place = tree
        for name in sections:
            inner = place.get(name)
            if not isinstance(inner, dict):
                raise ConfigError(f"there is no section `{name}` in trainer.yaml")
            place = inner
        place[last] = value
    try:
        return msgspec.convert(tree, TrainerConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error


def contract(recipe: TrainerConfig) -> str:
    """Equal where validation errors are of the same steps in the same units by like models."""
    options = models.checked(recipe.model.name, recipe.model.options)
    parts = (
        recipe.scaling,
        recipe.windows.scales,
        recipe.windows.transforms,
        recipe.windows.local,
        recipe.windows.clip,
        recipe.fit.loss,
        recipe.model.name,
        getattr(options, "forecast", None),
    )
    return msgspec.json.encode(parts).decode()


def to_yaml(recipe: TrainerConfig) -> str:
    """What differs from the defaults; reading it gives the same recipe again."""
    return msgspec.yaml.encode(_changed(recipe)).decode()


def _changed(section: Section) -> dict[str, Any]:
    found = {}
    for one in msgspec.structs.fields(section):
        value = getattr(section, one.name)
        default = one.default
        if one.default_factory is not msgspec.NODEFAULT:
            default = one.default_factory()
        if default is msgspec.NODEFAULT or value != default:
            found[one.encode_name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return _changed(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def _samples(dimension: Dimension) -> list[Any]:
    """Values that fit only if all do."""
    if dimension.values is not None:
        return dimension.values
    assert dimension.low is not None
    assert dimension.high is not None
    inner = dimension.low + INNER * (dimension.high - dimension.low)
    return [dimension.low, dimension.high, *([] if dimension.whole else [inner])]


def _option(path: str) -> str:
    return path.removeprefix(OPTIONS).partition(".")[0]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
