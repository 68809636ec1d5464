"""A partition's own clock: the time that its samples have reached, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.core.policy import Policy

NEVER, FOREVER = -(2**62), 2**62
"""Before and after all times; far enough from the ends of int64 to be reckoned with."""


class PartitionClock(NamedTuple):
    """How much time has passed in a partition, judged by its samples.

    `reached` is the time of the samples that lead; `elapsed` grows with it, but a leap of the
    leaders (from a backlog to today, say) is no time that anybody was silent for, so it counts as
    one step. Idle series are measured by `elapsed` alone. `ahead` is the series, and its time,
    that was last far ahead of all others.
    """

    elapsed: int = 0  # ms
    reached: int = NEVER  # ms UTC
    ahead: tuple[str, int] | None = None

    def until(self, time: int) -> PartitionClock:
        """The clock once time has passed up to `time` without a sample; never back."""
        if self.reached == NEVER or time <= self.reached:
            return self
        return self._replace(elapsed=self.elapsed + time - self.reached, reached=time)

    def advance(
        self, time: NDArray[np.int64], series: Sequence[str], policy: Policy
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], PartitionClock]:
        """`elapsed` as each sample arrives [n], whether it is alone far ahead [n], the clock then.

        A sample that is more than `max_clock_step` ahead moves the clock by that much only, one
        that is more than `max_jump` ahead not at all: its sender's clock may be wrong. As soon as
        a second series is that far ahead too, the clock leaps to where both are.
        """
        if not len(time):
            return np.empty(0, np.int64), np.empty(0, np.bool_), self
        start = self.reached if self.reached != NEVER else int(time[0])
        lead = np.maximum.accumulate(np.maximum(time, start))
        step = policy.max_clock_step
        if self.ahead is None and not (np.diff(lead, prepend=start) > step).any():
            passed = self.elapsed + lead - start
            after = self._replace(elapsed=int(passed[-1]), reached=int(lead[-1]))
            return passed, np.zeros(len(time), np.bool_), after
        elapsed, reached, ahead = self.elapsed, start, self.ahead
        result = np.empty(len(time), np.int64)
        far = np.zeros(len(time), np.bool_)
        for at, (now, name) in enumerate(zip(time.tolist(), series, strict=True)):
            if now <= reached + step:
                elapsed += max(0, now - reached)
                reached = max(reached, now)
                ahead = None if ahead is not None and ahead[0] == name else ahead
            elif ahead is not None and ahead[0] != name and ahead[1] > reached + step:
                elapsed, reached, ahead = elapsed + step, min(now, ahead[1]), (name, now)
            else:
                ahead = (name, now)
                if now <= reached + policy.max_jump:
                    elapsed, reached = elapsed + step, reached + step
                else:
                    far[at] = True
            result[at] = elapsed
        return result, far, PartitionClock(elapsed, reached, ahead)
