"""Recipes by name: a trainer.yaml under config/recipes, or wherever the user keeps one."""

from __future__ import annotations

from pathlib import Path

import stream_detector
from stream_detector.config import ConfigError, load_yaml
from trainer.config import TrainerConfig

DEFAULT = "default"
NO_RECIPE = "trainer defaults"


def folders() -> list[Path]:
    """Where recipes lie: in an installed wheel, and beside the packages in a checkout."""
    package = Path(stream_detector.__file__).parent
    places = (package / "_config", package.parent / "config")
    return [place / "recipes" for place in places if (place / "recipes").is_dir()]


def names() -> list[str]:
    return sorted({path.stem for folder in folders() for path in folder.glob("*.yaml")})


def recipe_path(name: str) -> Path:
    """The file of a recipe: a path to one, or a name. Raises ConfigError where there is none."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        return path
    for folder in folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = ", ".join(names()) or "none is installed"
    raise ConfigError(f"--recipe {name}: no such recipe ({known}); give a name or a .yaml file")


def read_recipe(name: str | None) -> tuple[str, TrainerConfig]:
    """Name and settings; without a name those of the recipe `default`, else the trainer's own."""
    if name is None:
        if DEFAULT not in names():
            return NO_RECIPE, TrainerConfig()
        name = DEFAULT
    path = recipe_path(name)
    return path.stem, load_yaml(path, TrainerConfig)
