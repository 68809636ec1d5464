"""A scorer that several engines share: what one of them has asked is not computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.scoring import tiles
from stream_detector.ports import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.ports import Scorer

Key = tuple[int, bytes]
Row = tuple["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32]"]


class Remembering:
    """A Scorer around another; answers by the windows' very bytes until it is told to forget.

    The rows of a tile don't depend on one another, so a tile may be made of remembered rows and of
    new ones.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._known: dict[Key, Row] = {}

    @property
    def rungs(self) -> tuple[int, ...]:
        return self._scorer.rungs

    def forget(self) -> None:
        self._known.clear()

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],  # [B, 60, F]
        center: NDArray[np.float32],  # [B, F]
        spread: NDArray[np.float32],  # [B, F]
    ) -> Scores:
        flat = np.concatenate([windows.reshape(len(windows), -1), center, spread], axis=1)
        raw, width = flat.tobytes(), flat.itemsize * flat.shape[1]
        keys = [(scale, raw[at : at + width]) for at in range(0, len(raw), width)]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if len(new) == len(keys):
            answer = self._scorer.score(scale, windows, center, spread)
            self._known.update(zip(keys, zip(*answer, strict=True), strict=True))
            return answer
        done = 0
        for rung in tiles(len(new), self.rungs):
            some = new[done : done + rung]
            done += len(some)
            padded = some + some[:1] * (rung - len(some))
            answer = self._scorer.score(scale, windows[padded], center[padded], spread[padded])
            rows = zip(*answer, strict=True)  # as many as the rung; those behind `some` are padding
            self._known.update(zip([keys[place] for place in some], rows, strict=False))
        known = [self._known[key] for key in keys]
        return Scores(*(np.stack(column) for column in zip(*known, strict=True)))
