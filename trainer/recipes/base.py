"""What a recipe is: a trainer.yaml, the data that it is for, and protocols that measure it.

A protocol fits on a training part, runs the test through the detector's engine and compares the
verdicts with the truth: ours, principal components in our model's place, and the threshold rule of
the published project that the recipe stands for, on the same data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stream_detector.core.policy import Policy
from trainer import engine_run, experts
from trainer.config import ModelChoice, TrainerConfig
from trainer.data import DataError
from trainer.evaluate import scored
from trainer.train import in_memory, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model
    from trainer.data import Dataset, SeriesData
    from trainer.engine_run import Seen
    from trainer.reading.marks import Truth
    from trainer.scored import Scored

Measures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one protocol gave for one seed."""

    ours: Measures
    pca: Measures
    original_rule: Measures
    example: Scored | None = field(default=None, repr=False)
    """Scores and verdicts of ours, for a report."""


class File(NamedTuple):
    """A file that a recipe needs, below the folder of data, and where it comes from."""

    path: str
    source: str


class Kit:
    """What protocols need of the world outside: the data's folder and the detector's scorer."""

    def __init__(self, data: Path, load: Callable[[Bundle], Model]) -> None:
        self._data = data
        self._load = load

    def path(self, file: File) -> Path:
        """The place of a file, the suite's folder or the file itself given as data as well.

        Raises DataError that says where the file comes from, where it is missing.
        """
        tail = file.path.split("/")
        places = [self._data.joinpath(*tail[start:]) for start in range(len(tail))]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataError(f"{places[0]} is missing; {file.source}")
        return found

    def model(self, data: Dataset, config: TrainerConfig) -> Model:
        """Trained, exported, and loaded as a detector would."""
        return self._load(in_memory(train(data, config, quiet=True)))

    @staticmethod
    def seen(
        model: Model, stretches: Sequence[SeriesData], policy: Policy | None = None
    ) -> list[Seen]:
        """What the detector's engine makes of stretches, each with no history before it."""
        return engine_run.run(model, stretches, policy or Policy(), detailed=True).seen

    @staticmethod
    def scored(
        model: Model, data: Dataset, truth: Truth | None = None, policy: Policy | None = None
    ) -> Scored:
        """Every sample through the detector's engine."""
        return scored(model, data, truth, policy)


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    about: str  # one line: what it stands for
    files: tuple[File, ...]
    protocols: Mapping[str, Callable[[Kit, TrainerConfig, int], Outcome]]
    published: Mapping[str, float] = field(default_factory=dict)
    """What the published project reported, by the names of our measures; `PROTOCOL.NAME` where it

    did so on the data of one protocol alone.
    """
    configs: Mapping[str, str] = field(default_factory=dict)
    """Names of the trainer.yaml of protocols that have one of their own."""

    def reported(self, protocol: str) -> Measures:
        """What the published project reported of a protocol, by the names of our measures."""
        whole = {name.rpartition(".")[::2]: value for name, value in self.published.items()}
        return {name: value for (where, name), value in whole.items() if where in ("", protocol)}


def seeded(config: TrainerConfig, seed: int) -> TrainerConfig:
    return changed(config, fit=changed(config.fit, seed=seed))


def with_pca(config: TrainerConfig) -> TrainerConfig:
    """The same recipe with principal components as its model, and only the model's own scores."""
    rules = config.experts
    if rules is not None:
        own = [changed(one, weight=None) for one in rules if one.name in experts.OF_THE_MODEL]
        rules = own or None
    calibration = changed(config.calibration, tail=None, fusion="sum")
    return changed(config, model=ModelChoice(name="pca"), experts=rules, calibration=calibration)


changed = msgspec.structs.replace
