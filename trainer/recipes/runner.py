"""All protocols of recipes over several seeds -> means and ranges, and the tables of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from stream_detector.config import ConfigError, load_yaml
from trainer.config import TrainerConfig
from trainer.config.recipes import recipes_folder
from trainer.data import DataError
from trainer.recipes import RECIPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.recipes.base import Kit, Measures, Outcome, Recipe
    from trainer.scored import Scored

LOWER_IS_BETTER = ("mse", "mae", "false_per_year", "false_alarms", "detection_delay")


@dataclass(slots=True)
class Result:
    """One recipe and protocol over its seeds."""

    recipe: Recipe
    protocol: str
    outcomes: list[Outcome] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        return {
            "name": self.recipe.name,
            "protocol": self.protocol,
            "seeds": len(self.outcomes),
            "metrics": summary([one.ours for one in self.outcomes]),
            "pca": summary([one.pca for one in self.outcomes]),
            "original_rule": summary([one.original_rule for one in self.outcomes]),
            "published": self.recipe.reported(self.protocol),
        }

    @property
    def example(self) -> Scored | None:
        return self.outcomes[0].example if self.outcomes else None


def summary(found: Sequence[Measures]) -> dict[str, dict[str, float]]:
    """Mean, least and largest of each measure over the seeds that have it; NaN where none has."""
    result = {}
    for name in found[0] if found else ():
        values = [one[name] for one in found if not math.isnan(one[name])] or [math.nan]
        mean = sum(values) / len(values)
        result[name] = {"mean": mean, "min": min(values), "max": max(values)}
    return result


def chosen(names: Sequence[str]) -> list[Recipe]:
    """Raises ConfigError for a name that no recipe has."""
    for name in names:
        if name not in RECIPES:
            raise ConfigError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return [RECIPES[name] for name in names or RECIPES]


def measured(
    recipes: Iterable[Recipe], kit: Kit, seeds: int, *, quiet: bool = False
) -> tuple[list[Result], list[str]]:
    """Results, and what was missing: a recipe without its data does not keep the others."""
    results: list[Result] = []
    missing: list[str] = []
    for recipe in recipes:
        try:
            for file in recipe.files:
                kit.path(file)
        except DataError as error:
            missing.append(f"{recipe.name}: {error}")
            continue
        results += [Result(recipe, protocol) for protocol in recipe.protocols]
    console = Console(stderr=True)
    with Progress(
        console=console, disable=quiet or not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task("", total=len(results) * seeds)
        for result in results:
            recipe = result.recipe
            name = recipe.configs.get(result.protocol, recipe.name)
            config = load_yaml(recipes_folder() / f"{name}.yaml", TrainerConfig)
            for seed in range(seeds):
                label = f"{recipe.name}, {result.protocol}, seed {seed}"
                progress.update(task, description=label)
                result.outcomes.append(recipe.protocols[result.protocol](kit, config, seed))
                progress.advance(task)
    return results, missing


def lines(body: dict[str, Any]) -> list[str]:
    """One recipe and protocol as lines of a terminal; a loss of ours is marked."""
    columns = [("ours", body["metrics"]), ("pca", body["pca"]), ("rule", body["original_rule"])]
    head = "".join(f"{name:>27}" for name, _ in columns)
    found = [f"{body['name']}, {body['protocol']}, {body['seeds']} seeds"]
    found.append(f"  {'':<22}{head}{'published':>12}")
    for name in dict.fromkeys(name for _, measures in columns for name in measures):
        mine = body["metrics"].get(name)
        cells = "".join(f"{_cell(measures.get(name)):>27}" for _, measures in columns)
        published = body["published"].get(name)
        lost = [
            other
            for other, measures in columns[1:]
            if mine and name in measures and _worse(name, mine["mean"], measures[name]["mean"])
        ]
        told = f"  loses to {' and '.join(lost)}" if lost else ""
        known = "" if published is None else f"{published:.3f}"
        found.append(f"  {name:<22}{cells}{known:>12}{told}")
    return found


def _cell(one: dict[str, float] | None) -> str:
    if one is None:
        return ""
    if math.isnan(one["mean"]):
        return "-"
    return f"{one['mean']:.3f} [{one['min']:.3f}, {one['max']:.3f}]"


def _worse(name: str, mine: float, other: float) -> bool:
    return mine > other if name in LOWER_IS_BETTER else mine < other
