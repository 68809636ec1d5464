"""Recipes by name: trainer.yaml files that travel with the program, below config/recipes."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from stream_detector.config import ConfigError, load_yaml
from trainer.config import TrainerConfig

DEFAULT = "default"
"""The recipe that is taken where none is named."""


def recipes_folder() -> Path:
    """Where the wheel keeps them, or the checkout that this file lies in."""
    packed = resources.files("stream_detector") / "_config" / "recipes"
    if packed.is_dir():
        return Path(str(packed))
    return Path(__file__).parents[2] / "config" / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def config_path(given: Path) -> Path:
    """The file itself, or the recipe of that name. Raises ConfigError where it is neither."""
    if given.exists() or given.suffix or len(given.parts) > 1:
        return given
    path = recipes_folder() / f"{given}.yaml"
    if not path.exists():
        raise ConfigError(
            f"{given}: no such file, and no recipe of that name; "
            f"there are {', '.join(recipe_names())}"
        )
    return path


def load_config(given: Path | None) -> TrainerConfig:
    """A trainer.yaml by path or by the name of a recipe; where none is given, the default one."""
    return load_yaml(config_path(given or Path(DEFAULT)), TrainerConfig)


def default_or(name: str | None) -> tuple[str, TrainerConfig]:
    """Name and settings; without a name those of the recipe `default`."""
    path = Path(name or DEFAULT)
    return config_path(path).stem, load_config(path)
