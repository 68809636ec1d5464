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
    new ones: engines drift apart where one of them begins a series anew.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._tiles: dict[Key, Scores] = {}
        self._rows: dict[Key, Row] = {}
        self._unsorted: list[tuple[list[Key], Scores]] = []  # tiles whose rows are not in `_rows`

    @property
    def rungs(self) -> tuple[int, ...]:
        return self._scorer.rungs

    def forget(self) -> None:
        for memory in (self._tiles, self._rows, self._unsorted):
            memory.clear()

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],  # [B, 60, F]
        center: NDArray[np.float32],  # [B, F]
        spread: NDArray[np.float32],  # [B, F]
    ) -> Scores:
        flat = np.concatenate([windows.reshape(len(windows), -1), center, spread], axis=1)
        raw, width = flat.tobytes(), flat.itemsize * flat.shape[1]
        answer = self._tiles.get((scale, raw))
        if answer is None:
            keys = [(scale, raw[at : at + width]) for at in range(0, len(raw), width)]
            self._sort()
            new = [place for place, key in enumerate(keys) if key not in self._rows]
            if len(new) == len(keys):
                answer = self._scorer.score(scale, windows, center, spread)
                self._unsorted.append((keys, answer))
            else:
                self._add(scale, keys, new, (windows, center, spread))
                rows = [self._rows[key] for key in keys]
                answer = Scores(*(np.stack(column) for column in zip(*rows, strict=True)))
            self._tiles[scale, raw] = answer
        return answer

    def _add(self, scale: int, keys: list[Key], new: list[int], asked: Row) -> None:
        """Score the new rows of a tile, in tiles of their own."""
        done = 0
        for rung in tiles(len(new), self.rungs):
            some = new[done : done + rung]
            done += len(some)
            padded = some + some[:1] * (rung - len(some))
            answer = self._scorer.score(scale, *(part[padded] for part in asked))
            rows = zip(*answer, strict=True)  # those behind `some` are padding
            self._rows.update(zip([keys[place] for place in some], rows, strict=False))

    def _sort(self) -> None:
        for keys, answer in self._unsorted:
            self._rows.update(zip(keys, zip(*answer, strict=True), strict=True))
        self._unsorted.clear()
