"""A histogram that takes arrays: thousands of scores a turn, counted into buckets at once."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric


class BulkHistogram(Collector):
    """A histogram that counts whole arrays at once; one row of counts per set of labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        edges: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._edges = np.array(edges, np.float64)  # [n] ascending, upper bounds, inclusive
        self._texts = [_number(edge) for edge in (*edges, math.inf)]
        self._counts: dict[tuple[str, ...], NDArray[np.int64]] = {}  # labels -> [n + 1]
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()  # the loop counts while a scrape reads
        if not self._labels:
            self.declare()
        registry.register(self)

    def declare(self, *labels: str) -> None:
        """Show these labels from now on, with nothing counted yet."""
        if len(labels) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}, got {labels}")
        with self._lock:
            if labels not in self._counts:
                self._counts[labels] = np.zeros(len(self._edges) + 1, np.int64)
                self._sums[labels] = 0.0

    def observe(self, values: ArrayLike, *labels: str) -> None:
        """Count an array [m]; NaN and infinities are left out (they would poison the sum)."""
        column = np.asarray(values, np.float64)
        finite = np.isfinite(column)
        if not finite.all():
            column = column[finite]
        index = np.searchsorted(self._edges, column, side="left")  # v <= edge: `le` is inclusive
        counts = np.bincount(index, minlength=len(self._edges) + 1)
        total = float(column.sum())
        self.declare(*labels)
        with self._lock:
            self._counts[labels] += counts
            self._sums[labels] += total

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            rows = [
                (labels, np.cumsum(counts).tolist(), self._sums[labels])
                for labels, counts in self._counts.items()
            ]
        family = self._family()
        for labels, cumulative, total in rows:
            family.add_metric(labels, list(zip(self._texts, cumulative, strict=True)), total)
        yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._documentation, labels=self._labels)


def _number(value: float) -> str:
    """A number as Prometheus writes it: OpenMetrics asks for one spelling only."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the client's, no types
