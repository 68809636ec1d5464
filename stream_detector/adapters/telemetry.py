"""One telemetry for the loop, several listeners behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.ports import Progress, Telemetry
    from stream_detector.records import Partition


class Fanout:
    """ports.Telemetry that tells each of its listeners, in order."""

    def __init__(self, *listeners: Telemetry) -> None:
        self._listeners = listeners

    def turn(self, progress: Progress) -> None:
        for listener in self._listeners:
            listener.turn(progress)

    def lag(self, lag: Mapping[Partition, int]) -> None:
        for listener in self._listeners:
            listener.lag(lag)

    def model(self, group: str, version: str) -> None:
        for listener in self._listeners:
            listener.model(group, version)

    def reload(self, outcome: str) -> None:
        for listener in self._listeners:
            listener.reload(outcome)
