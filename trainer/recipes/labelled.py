"""Streams whose samples are normal or abnormal one by one, and the share of right verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.recipes.base import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.policy import Policy
    from trainer.config import TrainerConfig
    from trainer.data import Dataset, SeriesData
    from trainer.reading.marks import Truth
    from trainer.recipes.base import Kit, Measures

USUAL = 0.95
"""Share of the training windows that a threshold read off their errors leaves normal."""


class Stream(NamedTuple):
    """Samples as a detector gets them, each judged when it is the newest."""

    series: SeriesData
    judged: Mapping[str, NDArray[np.int64]]
    """Rows by what they are: `normal`, or a kind of abnormal samples."""


def compare(
    kit: Kit,
    training: Dataset,
    streams: Sequence[Stream],
    ours: TrainerConfig,
    pca: TrainerConfig,
    policy: Policy | None = None,
    example: tuple[Dataset, Truth] | None = None,
) -> Outcome:
    """Accuracies of both by kind, and those of ours under the published projects' usual rule."""
    given = [stream.series for stream in streams]
    model = kit.model(training, ours)
    seen = kit.seen(model, given, policy)
    baseline = kit.seen(kit.model(training, pca), given, policy)
    learnt = np.concatenate([one.score for one in kit.seen(model, training.series)])
    usual = np.nanquantile(learnt, USUAL)
    return Outcome(
        accuracies(streams, [one.above for one in seen]),
        accuracies(streams, [one.above for one in baseline]),
        accuracies(streams, [one.score > usual for one in seen]),
        kit.scored(model, *example, policy) if example else None,
    )


def accuracies(streams: Sequence[Stream], verdicts: Sequence[NDArray[np.bool_]]) -> Measures:
    """Share of right verdicts by kind, pooled over the streams; a verdict says `abnormal`."""
    right: dict[str, list[NDArray[np.bool_]]] = {}
    for stream, verdict in zip(streams, verdicts, strict=True):
        for kind, rows in stream.judged.items():
            right.setdefault(kind, []).append(verdict[rows] == (kind != "normal"))
    return {f"{kind}_accuracy": float(np.concatenate(some).mean()) for kind, some in right.items()}
