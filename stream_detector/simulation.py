"""A labelled fleet of simulated machines: seeded, addressable at any step, in bounded memory.

Only numpy and the wire form of a sample live here; nothing reads, writes or waits. The value at a
step follows from (seed, series, step) alone: noise is drawn in blocks of fixed length, and memory
in the noise is a finite kernel, so that any piece can be made without what came before it.

A series is, in units of its own spread: machine cycle (period 20 to 45 steps, each feature with its
own lag) + daily season + noise shared by the features + own noise with memory + slow drift. Every
series has its own centre and gain, so pascals stand beside milligrams.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from stream_detector.machines import (
    MACHINES,
    RANGES,
    Fault,
    Feature,
    Label,
    Machine,
    Series,
    make_series,
    phase_of,
    wave,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["MACHINES", "Chunk", "Fault", "Feature", "Fleet", "Label", "Machine", "Series", "Wire"]

DAY_MS = 86_400_000
START_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z, a Monday
_BLOCK = 128  # steps drawn at once; part of what a seed means
_TAPS = 64  # steps that the noise remembers
_APART = 180  # steps between the faults of one series: window, quiet period and some peace


class Chunk(NamedTuple):
    """Samples of one machine type as columns of n rows, in order of time."""

    machine: Machine
    series: NDArray[np.int64]  # [n] index into Fleet.series
    step: NDArray[np.int64]  # [n]
    timestamp: NDArray[np.int64]  # [n] ms UTC
    values: NDArray[np.float64]  # [n, F]


class Wire(NamedTuple):
    """One sample as a record: its key, time and JSON."""

    series: str
    timestamp: int
    value: bytes


class Fleet:
    """Simulated machines with labelled faults in the part after `normal_steps`.

    Args:
        series: how many, shared out over the machine types.
        minutes: of simulated time.
        interval_ms: between the samples of one series; daily seasons follow the clock, machine
            cycles and faults are measured in steps.
        seed: equal seeds give equal fleets.
        anomaly_rate: faults per series and day, in the part that has any.
        normal_fraction: the first part, free of faults.
        start_ms: time of step 0.
        machines: the machine types.
    """

    def __init__(
        self,
        *,
        series: int = 24,
        minutes: float = 1440.0,
        interval_ms: int = 60_000,
        seed: int = 0,
        anomaly_rate: float = 2.0,
        normal_fraction: float = 0.6,
        start_ms: int = START_MS,
        machines: tuple[Machine, ...] = MACHINES,
    ) -> None:
        if series < 1 or minutes <= 0 or interval_ms < 1 or anomaly_rate < 0:
            raise ValueError("series, minutes and interval must be above 0, the anomaly rate >= 0")
        if not 0 <= normal_fraction <= 1 or seed < 0:
            raise ValueError("the normal fraction must be within 0 and 1, the seed >= 0")
        self.interval_ms = interval_ms
        self.seed = seed
        self.start_ms = start_ms
        self.steps = max(1, round(minutes * 60_000 / interval_ms))
        self.normal_steps = round(self.steps * normal_fraction)
        self.series = tuple(make_series(series, seed, interval_ms, machines))
        self.machines = tuple(m for m in machines if any(s.machine is m for s in self.series))
        self._members = {m.group: [s for s in self.series if s.machine is m] for m in self.machines}
        self._blocks: OrderedDict[tuple[str, int], NDArray[np.float64]] = OrderedDict()
        self.labels = tuple(self._inject(anomaly_rate))

    def members(self, group: str) -> list[Series]:
        """The series of one machine type, in the order of their rows."""
        return self._members[group]

    def time_of(self, series: int, step: int) -> int:
        return int(self._times(np.array([series]), np.array([step]))[0])

    def samples(self, start: int, stop: int) -> list[Chunk]:
        """Steps start to stop (not included) of every series, one chunk per machine type."""
        start, stop = max(0, start), min(self.steps, stop)
        return [self._chunk(machine, start, stop) for machine in self.machines]

    def records(self, start: int, stop: int) -> list[Wire]:
        """The same steps as JSON records of the default contract, in order of time."""
        wires = [wire for chunk in self.samples(start, stop) for wire in self._wires(chunk)]
        wires.sort(key=lambda wire: (wire.timestamp, wire.series))
        return wires

    def _wires(self, chunk: Chunk) -> Iterator[Wire]:
        encoder = msgspec.json.Encoder()
        names = [feature.name for feature in chunk.machine.features]
        single = names == ["value"]
        columns = (chunk.series.tolist(), chunk.timestamp.tolist(), chunk.values.tolist())
        for index, timestamp, values in zip(*columns, strict=True):
            name = self.series[index].name
            sample: dict[str, object] = {"series": name, "timestamp": timestamp}
            if single:
                sample["value"] = values[0]
            else:
                sample["values"] = dict(zip(names, values, strict=True))
            yield Wire(name, timestamp, encoder.encode(sample))

    def _chunk(self, machine: Machine, start: int, stop: int) -> Chunk:
        members = self._members[machine.group]
        count, width = max(0, stop - start), len(machine.features)
        values = np.empty((len(members), count, width))  # [S, n, F]
        for number in range(start // _BLOCK, -(-stop // _BLOCK) if count else 0):
            first, last = max(start, number * _BLOCK), min(stop, (number + 1) * _BLOCK)
            block = self._block(machine, number)
            offset = number * _BLOCK
            values[:, first - start : last - start] = block[:, first - offset : last - offset]
        rows = np.array([s.index for s in members], np.int64)
        step = np.broadcast_to(np.arange(start, start + count), (len(rows), count)).ravel()
        series = np.repeat(rows, count)
        timestamp = self._times(series, step)
        order = np.lexsort((series, timestamp))
        flat = values.reshape(-1, width)[order]
        return Chunk(machine, series[order], step[order], timestamp[order], flat)

    def _times(self, series: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each series has its own delay; clocks waver by up to 5% of the interval."""
        delays = np.array([s.delay for s in self.series], np.int64)
        mixed = (step * 2_654_435_761 + series * 40_503 + self.seed * 97) % 1_000_003
        waver = (mixed * (self.interval_ms // 20)) // 1_000_003
        times: NDArray[np.int64] = self.start_ms + step * self.interval_ms + delays[series] + waver
        return times

    def _block(self, machine: Machine, number: int) -> NDArray[np.float64]:
        """[S, block, F] of one machine type, faults included; the newest few are kept."""
        key = (machine.group, number)
        if key in self._blocks:
            return self._blocks[key]
        members = self._members[machine.group]
        course = self._normal(members, number)
        first = number * _BLOCK
        rows = {s.index: s.row for s in members}
        for label in self.labels:
            if label.series in rows and label.start < first + _BLOCK and label.end >= first:
                self._apply(label, course[rows[label.series]], first)
        center = np.array([s.center for s in members])[:, None]
        spread = np.array([s.spread for s in members])[:, None]
        # Sensors have a resolution: about a thousandth of their movement, whole decimals.
        unit = 10.0 ** (3 - np.floor(np.log10(spread)))
        units = center + spread * course
        coarse = np.maximum(1.0, np.rint(1 / unit))  # exact, where a unit is a small fraction
        fine = np.rint(units * unit) / unit
        block: NDArray[np.float64] = np.where(unit >= 1, fine, np.rint(units / coarse) * coarse)
        self._blocks[key] = block
        while len(self._blocks) > 2 * len(self.machines):
            self._blocks.popitem(last=False)
        return block

    def _normal(self, members: list[Series], number: int) -> NDArray[np.float64]:
        """Normal course of one block in units of each feature's spread, [S, block, F]."""
        features = members[0].machine.features
        step = np.arange(number * _BLOCK, (number + 1) * _BLOCK)
        phase = np.array([phase_of(s, step) for s in members])  # [S, n]
        season = np.array([s.season for s in members])  # [S, 4]
        day = (step * (self.interval_ms / DAY_MS))[None]  # [1, n] days
        turn = 2 * np.pi
        daily = np.sin(turn * (day + season[:, :1])) + 0.3 * np.sin(
            2 * turn * (day + season[:, 1:2])
        )
        slow = 0.15 * (
            np.sin(turn * (day / 2.7 + season[:, 2:3])) + np.sin(turn * (day / 5.3 + season[:, 3:]))
        )
        white = np.stack([self._white(s, number) for s in members])  # [S, taps + n, F + 1]
        shared = _remember(white[..., -1:], np.array([0.85]))[..., 0]  # [S, n]
        own = _remember(white[..., :-1], np.array([f.memory for f in features]))
        out = np.empty((len(members), _BLOCK, len(features)))
        for column, f in enumerate(features):
            out[:, :, column] = (
                f.cycle * wave(phase - f.lag)
                + f.day * daily
                + f.common * shared
                + f.own * own[..., column]
                + slow
            )
        return out

    def _white(self, series: Series, number: int) -> NDArray[np.float64]:
        """Unit noise of a block and of the steps before it that it remembers."""
        width = len(series.machine.features) + 1
        parts = [
            np.random.default_rng([self.seed, 1, series.index, block + 1]).standard_normal(
                (_BLOCK, width)
            )
            for block in (number - 1, number)
        ]
        return np.concatenate(parts)[_BLOCK - _TAPS :]

    def _inject(self, rate: float) -> Iterator[Label]:
        """Faults of every series; the kinds are dealt in turn, so that each gets its share."""
        if rate == 0:
            return
        mean_gap = DAY_MS / self.interval_ms / rate
        rng = np.random.default_rng([self.seed, 2])
        decks: dict[str, list[Fault]] = {}
        for series in self.series:
            step = self.normal_steps + _APART // 2 + int(rng.uniform(0, mean_gap))
            while step < self.steps:
                deck = decks.setdefault(series.machine.group, [])
                if not deck:
                    deck.extend(rng.permutation(np.array(series.machine.faults)).tolist())
                label = self._fault(rng, series, Fault(deck.pop()), step)
                if label.end >= self.steps - 30:
                    break
                yield label
                step = label.end + _APART + int(rng.exponential(max(1.0, mean_gap - _APART)))

    def _fault(self, rng: np.random.Generator, series: Series, kind: Fault, start: int) -> Label:
        features = series.machine.features
        low, high, least, most = RANGES[kind]
        length = int(rng.integers(low, high + 1))
        magnitude = float(rng.uniform(least, most))
        touched = int(rng.integers(1, len(features) + 1))
        chosen = sorted(rng.choice(len(features), touched, replace=False).tolist())
        speed = 1.0
        if kind is Fault.FLATLINE:
            chosen = chosen[:1]
        if kind is Fault.FREQUENCY_CHANGE:
            chosen = list(range(len(features)))
            cycles = float(rng.integers(2, 4))
            length = round(cycles * series.period)
            # A whole number of cycles more or fewer: the course meets the normal one at the end.
            speed = 1 + (1 if rng.random() < 0.5 else -1) * (cycles - 1) / cycles
            rms = [f.cycle * np.sqrt(2) * s for f, s in zip(features, series.spread, strict=True)]
            magnitude = float(np.max(np.array(rms) / series.sigma))
        sign = tuple(np.where(rng.random(len(features)) < 0.5, -1.0, 1.0).tolist())
        end = start + length - 1
        return Label(
            series=series.index,
            name=series.name,
            kind=kind,
            start=start,
            end=end,
            start_time=self.time_of(series.index, start),
            end_time=self.time_of(series.index, end),
            features=tuple(features[i].name for i in chosen),
            magnitude=magnitude,
            sign=sign,
            speed=speed,
        )

    def _apply(self, label: Label, values: NDArray[np.float64], first: int) -> None:
        """Change the rows of one series' block, [block, F] in units of spread, in place."""
        series = self.series[label.series]
        begin, stop = max(label.start, first), min(label.end + 1, first + _BLOCK)
        step = np.arange(begin, stop)
        length = label.end - label.start + 1
        sigma = series.sigma / series.spread
        for column, feature in enumerate(series.machine.features):
            if feature.name not in label.features:
                continue
            part = values[begin - first : stop - first, column]
            height = label.sign[column] * label.magnitude * sigma[column]
            match label.kind:
                case Fault.SPIKE | Fault.LEVEL_SHIFT:
                    part += height
                case Fault.DRIFT:
                    part += height * (step - label.start + 1) / length
                case Fault.NOISE_BURST:
                    key = [self.seed, 3, label.series, label.start, column]
                    burst = np.random.default_rng(key).standard_normal(length)
                    part += height * burst[step - label.start]
                case Fault.FLATLINE:
                    at = divmod(label.start, _BLOCK)
                    part[:] = self._normal([series], at[0])[0, at[1], column]
                case Fault.FREQUENCY_CHANGE:
                    phase = phase_of(series, step)
                    begun = phase_of(series, np.array([label.start]))
                    other = begun + (phase - begun) * label.speed
                    part += feature.cycle * (wave(other - feature.lag) - wave(phase - feature.lag))


def _remember(white: NDArray[np.float64], memory: NDArray[np.float64]) -> NDArray[np.float64]:
    """White noise [S, taps + n, C] -> noise with memory of unit variance, [S, n, C]."""
    kernel = memory[None] ** np.arange(_TAPS, -1, -1)[:, None]  # [taps + 1, C], newest last
    kernel /= np.sqrt((kernel**2).sum(axis=0))
    windows = np.lib.stride_tricks.sliding_window_view(white, _TAPS + 1, axis=1)  # [S, n, C, taps]
    out: NDArray[np.float64] = np.einsum("snct,tc->snc", windows, kernel)
    return out
