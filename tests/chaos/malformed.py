"""`python -m tests.chaos.malformed`: millions of payloads that should never have been sent.

They come between good samples of known neighbours, through the service's own decoder, engine, loop
and dead letters, with the log in memory. Beside it a second loop is given the neighbours' samples
alone. Nothing may break, each record must become samples or dead letters, and what is said of the
neighbours, and known of them, must be the same to the bit.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from stream_detector.commands import wiring
from stream_detector.config import DetectorConfig
from stream_detector.formats.events import message_envelope
from stream_detector.ports import Polled, Position
from stream_detector.records import Outcome, Partition, Reason, Record
from tests.chaos.payloads import NEIGHBOURS, payloads
from tests.fakes import model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.slab import Slab
    from stream_detector.ports import Ended
    from stream_detector.ports import Progress as Turn
    from stream_detector.records import Message, Verdicts
    from tests.chaos.payloads import Payload

TOPIC, GROUP, EVENTS, LETTERS = "sensors", "g", "events", "letters"
HOME = Partition(TOPIC, 0)
ROUND = 20_000  # records between two looks
MAX_SERIES = 20_000
WARM = 0.25  # share of the rounds after which memory is judged
GROWTH_MB = 32.0  # of resident memory after that, at most
CLOCKS = {"slot", "heard"}  # of a row: its place, and the partition's time as its sample came
SHOWN = 20  # failures in full

console = Console(stderr=True)


class Log:
    """ports.Source and ports.Sink of one loop; keeps what is new since the last look alone."""

    unseen = False

    def __init__(self) -> None:
        self.waiting: list[Record] = []
        self.offset = 0
        self.committed = 0
        self.sent: list[Message] = []
        self._joined = False

    def append(self, key: bytes | None, value: bytes | None, at: int) -> None:
        self.waiting.append(Record(*HOME, self.offset, at, key, value))
        self.offset += 1

    def poll(self, timeout: float, max_records: int) -> Polled:  # noqa: ARG002  # it never waits
        found, self.waiting = self.waiting[:max_records], self.waiting[max_records:]
        assigned, self._joined = frozenset(() if self._joined else (HOME,)), True
        return Polled(found, assigned)

    def acknowledge(self, positions: Mapping[Partition, Position]) -> None:
        self.committed = positions.get(HOME, Position(self.committed)).offset

    def partitions(self) -> Mapping[str, int]:
        return {TOPIC: 1}

    def drained(self, partitions: Collection[Partition]) -> frozenset[Partition]:  # noqa: ARG002
        return frozenset()  # no time passes by the clock

    def unassigned(self) -> frozenset[Partition]:
        return frozenset()

    def lag(self) -> Mapping[Partition, int]:
        return {HOME: len(self.waiting)}

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def ended(self) -> Sequence[Ended]:
        return ()

    def flush(self) -> None: ...
    def close(self) -> None: ...


class Side(wiring.NoTelemetry):
    """One loop and what it said since the last look. Telemetry and normal store of its own loop."""

    def __init__(self, config: DetectorConfig) -> None:
        self.log = Log()
        self.verdicts: list[Verdicts] = []
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.polled = self.faults = 0
        plan, served = wiring.plan(config), {GROUP: model()}
        self.loop = wiring.loop(plan, served, self.log, self.log, telemetry=self, store=self)

    def turn(self, progress: object) -> None:
        turn: Turn = progress  # type: ignore[assignment]  # it is one
        self.polled += turn.polled
        self.outcomes.update(turn.outcomes)
        self.reasons.update(reject.reason.value for reject in turn.rejected)
        self.faults += sum(part.faults for part in turn.scores)

    def record(self, verdicts: Verdicts) -> None:
        self.verdicts.append(verdicts)

    def close(self) -> None: ...

    def run(self) -> None:
        self.verdicts.clear()
        self.log.sent.clear()
        while self.log.waiting:
            self.loop.turn()

    def of_neighbours(self) -> tuple[list[Any], ...]:
        """Series, time, outcome, level (its bits) and whether anomalous, of each sample."""
        found: tuple[list[Any], ...] = ([], [], [], [], [])
        for each in self.verdicts:
            series = each.batch.series
            at = [place for place, name in enumerate(series) if name.startswith("good/")]
            # Too far ahead: they were refused before they came to the series.
            at = [place for place in at if each.outcome[place] != Outcome.FUTURE]
            bits = each.level.view(np.int32)
            columns: list[NDArray[Any]] = [each.batch.timestamp, each.outcome, bits, each.anomalous]
            found[0].extend(series[place] for place in at)
            for column, part in zip(found[1:], columns, strict=True):
                column.extend(part[at].tolist())
        return found

    def events(self) -> Counter[str]:
        """Those of the neighbours, without their offsets, which are the log's."""
        found: Counter[str] = Counter()
        for message in self.log.sent:
            if message.topic == EVENTS and (message.key or b"").startswith(b"good/"):
                event = message_envelope(message.headers, message.value)
                event["data"]["source"]["offset"] = None
                found[json.dumps(event, sort_keys=True)] += 1
        return found

    def slab(self) -> Slab:
        return self.loop._engine._slabs[GROUP, HOME]


class Trial:
    """Feeds both sides, and notes what must not be."""

    def __init__(self, malformed: int, seed: int) -> None:
        self.malformed = malformed
        self.seed = seed
        config = _config()
        self.whole, self.alone = Side(config), Side(config)
        self.failures: Counter[str] = Counter()
        self.examples: list[str] = []
        self.kinds: dict[str, Counter[str]] = {}
        self.letters = self.samples = self.neighbours = self.events = 0
        self._unmatched: Counter[str] = Counter()  # events of one side alone, so far
        self.memory: list[float] = []  # MB, after each round

    def run(self, note: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
        began, busy = time.monotonic(), time.process_time()
        stream = payloads(self.malformed, self.seed)
        while sent := list(itertools.islice(stream, ROUND)):
            self._round(sent)
            note(sum(1 for each in sent if each.kind != "good"))
        for side in (self.whole, self.alone):
            side.loop.run(lambda: True)
            self._fail(side.log.committed != side.log.offset, "not all offsets were acknowledged")
        for event, count in self._unmatched.items():
            self._fail(count != 0, f"an event of a neighbour on one side alone: {event}")
        self._totals()
        return self._report(time.monotonic() - began, time.process_time() - busy)

    def _round(self, sent: Sequence[Payload]) -> None:
        first = self.whole.log.offset
        for each in sent:
            self.whole.log.append(each.key, each.value, each.time)
            for sample in each.good:
                self.alone.log.append(b"g", sample, each.time)
        self.whole.run()
        self.alone.run()
        self._account(sent, first)
        self._compare()
        self.memory.append(resident())

    def _account(self, sent: Sequence[Payload], first: int) -> None:
        """Every record is samples, dead letters, or both, as it should be."""
        accepted, judged = np.zeros(len(sent), np.int64), np.zeros(len(sent), np.int64)
        for verdicts in self.whole.verdicts:
            at = verdicts.batch.offset - first
            np.add.at(judged, at, 1)
            np.add.at(accepted, at[verdicts.outcome == Outcome.ACCEPTED], 1)
        letters: list[list[str]] = [[] for _ in sent]
        for message in self.whole.log.sent:
            if message.topic != LETTERS:
                continue
            headers = {name: value.decode() for name, value in message.headers}
            of = int(headers["dlq_offset"]) - first
            same = (message.key, message.value) == (sent[of].key, sent[of].value)
            told = headers["dlq_reason"] in REASONS and bool(headers["dlq_detail"])
            self._fail(not same or not told, "a dead letter is not its record with a reason", of)
            letters[of].append(headers["dlq_reason"])
        self.letters += sum(map(len, letters))
        self.samples += int(judged.sum())
        for place, each in enumerate(sent):
            got, said, why = int(accepted[place]), int(judged[place]), letters[place]
            self._fail(not said and not why, "a record is neither sample nor letter", place, each)
            if each.bad or each.good:
                self._fail(got != len(each.good), "another number of good samples", place, each)
                self._fail(each.bad != bool(why), "a letter too many or too few", place, each)
            kind = self.kinds.setdefault(each.kind, Counter())
            kind["records"] += 1
            kind["accepted"] += got
            kind["dropped"] += said - got
            kind["letters"] += len(why)

    def _compare(self) -> None:
        """The neighbours are as if nothing else had come."""
        whole, alone = self.whole.of_neighbours(), self.alone.of_neighbours()
        self._fail(whole != alone, "what is said of the neighbours' samples differs")
        self.neighbours += len(alone[0])
        events, others = self.whole.events(), self.alone.events()
        self.events += others.total()
        self._unmatched.update(events)
        self._unmatched.subtract(others)
        self._unmatched = Counter({name: n for name, n in self._unmatched.items() if n})
        known, truth = self.whole.slab(), self.alone.slab()
        names = [name for name in NEIGHBOURS if name in truth.index]
        here, there = ([slab.index[name] for name in names] for slab in (known, truth))
        for column in truth.columns:
            if column not in CLOCKS:
                mine, theirs = getattr(known, column)[here], getattr(truth, column)[there]
                differ = mine.tobytes() != theirs.tobytes()
                self._fail(differ, f"`{column}` of the neighbours differs")
        for mine, theirs in zip(known.pasts(), truth.pasts(), strict=True):
            self._fail(
                mine[here].tobytes() != theirs[there].tobytes(), "past scores or inputs differ"
            )

    def _totals(self) -> None:
        side = self.whole
        self._fail(side.polled != side.log.offset, "not all records were polled")
        self._fail(side.outcomes.total() != self.samples, "samples were not counted as they came")
        self._fail(side.reasons.total() != self.letters, "letters were not counted as they came")
        self._fail(side.faults != 0, f"{side.faults} windows were not scored")
        later = self.memory[int(WARM * len(self.memory)) :]
        growth = max(later) - later[0]
        self._fail(growth > GROWTH_MB, f"memory grew by {growth:.0f} MB")

    def _fail(
        self, wrong: object, what: str, place: int | None = None, each: Payload | None = None
    ) -> None:
        if not wrong:
            return
        self.failures[what] += 1
        if len(self.examples) < SHOWN:
            where = f"round {len(self.memory)}" + (f", record {place}" if place is not None else "")
            more = f": {each.kind} {(each.value or b'')[:300]!r}" if each else ""
            self.examples.append(f"{where}: {what}{more}")

    def _report(self, seconds: float, busy: float) -> dict[str, Any]:
        later = self.memory[int(WARM * len(self.memory)) :]
        return {
            "payloads": self.malformed,
            "seed": self.seed,
            "records": self.whole.log.offset,
            "kinds": {name: dict(counts) for name, counts in sorted(self.kinds.items())},
            "outcomes": dict(+self.whole.outcomes),
            "letters": dict(self.whole.reasons),
            "neighbours": {"samples": self.neighbours, "events": self.events},
            "failed": self.failures.total(),
            "failures": dict(self.failures),
            "examples": self.examples,
            "rss_mb": {"warm": later[0], "max": max(later), "last": later[-1]},
            "seconds": seconds,
            "cpu_seconds": busy,
        }


REASONS = set(Reason)


def resident() -> float:
    """MB of memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096 / 1e6


def _config() -> DetectorConfig:
    settings = {
        "kafka": {"bootstrap_servers": ["none"], "group_id": "malformed"},
        "input": {"topics": [TOPIC], "start": "earliest"},
        "output": {"topic": EVENTS, "dead_letter_topic": LETTERS},
        "model": {"registry": "none", "name": GROUP},
        "time": {"evict_after": "1d"},
        "limits": {"max_series": MAX_SERIES},
    }
    return msgspec.convert(settings, DetectorConfig)


def main(
    *,
    count: Annotated[
        int, typer.Option("--payloads", min=1, help="Malformed ones; good ones come on top.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(help="Decides what they are.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Malformed payloads without a crash, a lost record or a harmed neighbour."""
    columns = (
        TextColumn("payloads"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[memory]:.0f} MB, {task.fields[failed]} failures"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("payloads", total=count, memory=resident(), failed=0)
        trial = Trial(count, seed)
        report = trial.run(
            lambda n: bar.update(task, advance=n, memory=resident(), failed=trial.failures.total())
        )
    if as_json:
        print(json.dumps(report))
    show(report)
    if report["failed"]:
        sys.exit(1)


def show(report: dict[str, Any]) -> None:
    names = ("records", "accepted", "dropped", "letters")
    table = Table("kind", *names, title=f"{report['payloads']:,} payloads, seed {report['seed']}")
    for kind, counts in report["kinds"].items():
        table.add_row(kind, *(f"{counts[name]:,}" for name in names))
    console.print(table)
    for name in ("outcomes", "letters", "neighbours", "rss_mb", "seconds", "cpu_seconds"):
        console.print(f"{name}: {json.dumps(report[name])}")
    for each in report["examples"]:
        console.print(each, markup=False)
    console.print(f"{report['failed']} failures")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
