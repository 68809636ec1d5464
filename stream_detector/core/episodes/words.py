"""Episodes in the words of events: what was observed and expected, and the event itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.calibration import MATURE
from stream_detector.core.episode import Now, Window
from stream_detector.core.slab import LEARNING, WINDOW
from stream_detector.records import AnomalyEvent, Maturity, Severity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.episode import Episode
    from stream_detector.core.episodes.samples import Samples, Who
    from stream_detector.core.slab import Slab
    from stream_detector.records import Status

SEVERITIES = (Severity.MINOR, Severity.MAJOR, Severity.CRITICAL)


class Words:
    """Speaks for the series of one slab."""

    def __init__(self, slab: Slab, who: Who) -> None:
        self._slab = slab
        self._who = who

    def event(
        self, row: int, episode: Episode, status: Status, at: int, reason: str | None = None
    ) -> AnomalyEvent:
        """The next event of an episode; moves its `seq` on."""
        now, window, who = episode.now, episode.window, self._who
        seq = episode.seq
        episode.seq += 1
        return AnomalyEvent(
            source=who.source,
            series=self._slab.names[row] or "",
            kind=episode.kind,
            status=status,
            at=at,
            seq=seq,
            started_at=episode.started_at,
            window_start=window.start,
            window_end=window.end,
            scale=window.scale,
            severity=SEVERITIES[episode.severity],
            level=now.level,
            threshold=episode.threshold,
            score=now.score,
            model_version=who.version,
            maturity=maturity(now.scored, now.level, int(self._slab.whole[row])),
            partition=who.partition,
            offset=now.offset,
            close_reason=reason,
            observed=now.observed,
            expected=window.expected,
            contribution=window.contribution,
            contaminated=episode.contaminated,
        )

    def named(self, vector: NDArray[np.floating]) -> dict[str, float]:
        return dict(zip(self._who.features, vector.tolist(), strict=True))

    def now(self, i: int, samples: Samples) -> Now:
        """The series as of sample i, which completed a step."""
        observed = self.named(samples.steps.stages[0][samples.step[i]])
        return self.plain(i, samples)._replace(observed=observed)

    @staticmethod
    def plain(i: int, samples: Samples) -> Now:
        """The series as of sample i, without its values."""
        return Now(
            int(samples.time[i]),
            int(samples.offset[i]),
            float(samples.level[i]),
            float(samples.score[i]),
            int(samples.scored[i]),
            {},
        )

    def window(self, row: int, i: int, samples: Samples) -> Window | None:
        """The window that this sample completed, of the scale that is most to blame."""
        step, steps = int(samples.step[i]), samples.steps
        excess = np.where(np.isnan(samples.excess[step]), -np.inf, samples.excess[step])
        most = int(np.argmax(excess))
        if excess[most] == -np.inf:
            return None
        scale = samples.expert_scale[most]
        windows, contribution, expected = samples.windows[scale]
        w = int(np.searchsorted(windows.step, step))
        end = int(steps.time[step])
        count = WINDOW * scale - (not steps.resampled)  # a bucket has a width, a sample none
        length = count * float(self._slab.interval[row])
        return Window(
            scale,
            end - round(length),
            end,
            self.named(
                self._slab.transforms.expected(
                    [stage[step] for stage in steps.stages],
                    float(steps.since[step]),
                    self._slab.anchor[row] + expected[w],
                )
            ),
            self.named(contribution[w]),
        )


def maturity(scored: int, level: float, whole: int) -> Maturity:
    if scored < whole:
        return Maturity.RECOVERING
    if scored >= MATURE:
        return Maturity.MATURE
    return Maturity.LEARNING if np.isnan(level) else Maturity.WARMING


def maturities(slab: Slab) -> dict[Maturity, int]:
    """How many of its series are how mature."""
    rows = slab.rows_in_use()
    doubtful = slab.scored[rows] < slab.whole[rows]
    young = ~doubtful & (slab.state[rows] == LEARNING)
    mature = ~doubtful & ~young & (slab.scored[rows] >= MATURE)
    return {
        Maturity.RECOVERING: int(doubtful.sum()),
        Maturity.LEARNING: int(young.sum()),
        Maturity.WARMING: int((~doubtful & ~young & ~mature).sum()),
        Maturity.MATURE: int(mature.sum()),
    }
