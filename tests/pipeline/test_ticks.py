"""Silence is found where nothing comes at all: the loop's ticks, with a clock of the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.adapters.files import FileSource
from stream_detector.core.policy import DAY, HOUR, Policy
from stream_detector.records import Partition
from stream_detector.ticking import KEPT, Tick, Ticks
from tests.pipeline.loop_case import MINUTE, T0, TOPIC, Case, HandClock, noise, spiked

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

PLACE = Partition(TOPIC, 0)
EVERY = 10.0


class TickingCase(Case):
    """A service that does not end when everything is read, and a clock to move by hand."""

    def __init__(self, **changes: Any) -> None:
        self.hand = HandClock()
        super().__init__(finite=False, clock=self.hand, tick_every=EVERY, **changes)

    def turns(self, seconds: float, step: float = 5.0) -> None:
        """Turns of the loop while time passes."""
        for _ in range(round(seconds / step)):
            self.hand.at += step
            self.loop.turn()

    def kinds(self) -> list[tuple[str, str, str]]:
        return [(e["series"], e["kind"], e["status"]) for e in self.events]


def opened(case: Case, kind: str) -> list[dict[str, Any]]:
    return [e for e in case.events if e["kind"] == kind and e["status"] == "opened"]


def test_a_partition_that_falls_silent_as_a_whole_is_told_at_the_deadline_of_each_series() -> None:
    case = TickingCase()
    case.samples("pump", noise(200))
    case.samples("calm", noise(180, 1))
    case.loop.turn()
    case.turns(3500, 50.0)
    assert opened(case, "silence") == []
    case.turns(1500, 50.0)
    found = {e["series"]: e["started_at"] for e in opened(case, "silence")}
    assert found == {
        "pump": T0 + 199 * MINUTE + HOUR,
        "calm": T0 + 179 * MINUTE + HOUR,
    }
    (tick,) = case.loop.ticks.of(PLACE)
    assert tick.offset == 380
    assert tick.time == pytest.approx(T0 + 199 * MINUTE + 5_000_000, abs=60_000)


def test_an_anomaly_that_is_open_when_everything_stops_is_closed_by_its_deadline() -> None:
    case = TickingCase(policy=Policy(silence=False))
    case.samples("pump", spiked(110))
    case.loop.turn()
    case.turns(2 * 3600, 50.0)
    *_, last = case.events
    assert (last["kind"], last["status"], last["close_reason"]) == ("anomaly", "closed", "silent")
    message = case.broker.messages("events")[-1]
    assert dict(message.headers)["ce_time"] == b"2026-01-05T02:49:00.000Z"


def test_series_of_an_idle_partition_are_forgotten_in_time() -> None:
    case = TickingCase(policy=Policy(evict_after=DAY))
    case.samples("pump", noise(200))
    case.loop.turn()
    assert sum(case.engine.series().values()) == 1
    case.turns(DAY / 1000 + 7200, 600.0)
    assert sum(case.engine.series().values()) == 0
    assert case.kinds() == [("pump", "silence", "opened"), ("pump", "silence", "closed")]


def test_when_samples_come_again_the_silence_ends_and_nothing_is_told_twice() -> None:
    case = TickingCase()
    case.samples("pump", noise(200))
    case.loop.turn()
    case.turns(2 * 3600, 50.0)
    case.samples("pump", noise(30, 2), first=200 + 120)
    case.loop.turn()
    case.turns(60)
    assert case.kinds() == [("pump", "silence", "opened"), ("pump", "silence", "closed")]
    assert case.telemetry.outcomes == {"accepted": 230}


def test_a_busy_partition_and_one_with_unread_records_get_no_ticks() -> None:
    case = TickingCase(max_batch=1)
    case.samples("pump", noise(200))
    for _ in range(250):
        case.hand.at += 2 * EVERY
        case.loop.turn()
        if case.source.lag().get(PLACE):
            assert case.loop.ticks.of(PLACE) == []
    assert case.loop.ticks.of(PLACE) != []


def test_no_time_passes_while_the_source_cannot_say_that_all_is_read() -> None:
    case = TickingCase()
    case.samples("pump", noise(200))
    case.loop.turn()

    def nobody_knows(partitions: Collection[Partition]) -> frozenset[Partition]:  # noqa: ARG001
        return frozenset()

    case.source.drained = nobody_knows  # type: ignore[method-assign]  # the brokers are away
    case.turns(5 * 3600, 60.0)
    del case.source.drained
    case.turns(1800, 60.0)
    assert case.events == []
    case.turns(2000, 60.0)
    assert case.kinds() == [("pump", "silence", "opened")]


def test_what_is_told_does_not_depend_on_how_often_the_loop_turns() -> None:
    def told(step: float, max_batch: int) -> list[dict[str, Any]]:
        case = TickingCase(max_batch=max_batch)
        case.samples("pump", spiked(110))
        case.samples("calm", noise(180, 1))
        for _ in range(300):
            case.loop.turn()
        case.turns(2 * 3600, step)
        return [e | {"source": None} for e in case.events]

    assert told(5.0, 5000) == told(30.0, 7) != []


def test_time_in_files_passes_with_their_rows_alone(tmp_path: Path) -> None:
    (tmp_path / "pump.csv").write_text("timestamp,value\n1,2\n2,3\n")
    source = FileSource(tmp_path / "pump.csv")
    (record, _), place = source.poll(0, 10).records, Partition("pump.csv", 0)
    assert record.topic == place.topic
    assert source.drained([place]) == frozenset()


def test_a_partition_that_has_no_sample_yet_has_no_time_that_could_pass() -> None:
    case = TickingCase()
    case.append(b"{")
    case.loop.turn()
    case.turns(3600, 60.0)
    assert case.loop.ticks.of(PLACE) == []


def test_the_same_ticks_at_the_same_offsets_rebuild_the_same_state() -> None:
    case = TickingCase()
    offsets = []
    for spell in range(4):
        case.samples("pump", noise(70, spell), first=spell * 300)
        case.samples("calm", noise(70, 9 + spell), first=spell * 300)
        case.loop.turn()
        case.turns(2 * 3600, 50.0)
        offsets.append((spell + 1) * 140)
    made = case.loop.ticks.of(PLACE)
    assert [tick.offset for tick in made] == offsets
    again = Case()
    for record in case.broker.messages(TOPIC):
        again.append(record.value, record.key, record.timestamp or 0)
    polled = again.source.poll(0, 10_000).records
    done = 0
    for tick in made:
        samples, _ = again.loop._decoder.decode(polled[done : tick.offset])
        again.engine.process(again.loop._groups.assemble(samples).batches)
        again.engine.tick(PLACE, tick.time)
        done = tick.offset
    assert again.engine.digest(PLACE) == case.engine.digest(PLACE)


def test_what_is_remembered_of_ticks_is_bounded_and_can_be_forgotten() -> None:
    class Engine:
        def reached(self, _: Partition) -> int:
            return 0

        def tick(self, _: Partition, time: int) -> list[Any]:
            assert time == 10_000
            return []

    class Source:
        def drained(self, some: Collection[Partition]) -> frozenset[Partition]:
            return frozenset(some)

    ticks = Ticks(EVERY)
    ticks.resume(PLACE, 7, [Tick(3, 1)], 0.0)
    for nth in range(1, 3):
        ticks.run([], Source(), Engine(), EVERY * nth)  # type: ignore[arg-type]
    assert ticks.of(PLACE) == [Tick(3, 1), Tick(7, 10_000)]
    for offset in range(8, 200):
        ticks.resume(PLACE, offset, ticks.of(PLACE), 0.0)
        ticks.run([], Source(), Engine(), EVERY)  # type: ignore[arg-type]
    assert len(ticks.of(PLACE)) == KEPT
    ticks.forget(PLACE, 190)
    assert [tick.offset for tick in ticks.of(PLACE)] == list(range(190, 200))
    ticks.drop(PLACE)
    assert ticks.run([], Source(), Engine(), 1e9) == ([], {})  # type: ignore[arg-type]
    assert ticks.of(PLACE) == []


def test_a_topic_that_grows_is_told_and_its_new_partitions_are_read_from_their_first_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = TickingCase(partitions=1)
    case.samples("pump", noise(100))
    case.loop.turn()
    case.broker.add_partitions(TOPIC, 3)
    case.samples("calm", noise(50), partition=1)  # by its key it belongs into 2
    case.turns(10.0)
    assert case.telemetry.outcomes == {"accepted": 150}
    assert [t.odd.repartitioned for t in case.telemetry.turns if t.odd.repartitioned] == [
        {TOPIC: 3}
    ]
    assert f"topic {TOPIC} has 3 partitions now, it had 1" in caplog.text
    assert sum(turn.odd.misplaced.get(TOPIC, 0) for turn in case.telemetry.turns) == 50
