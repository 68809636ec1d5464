"""The loop as the service runs it, on the broker in memory and a numpy model."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.policy import Policy
from stream_detector.ports import Model, Scores, SinkError
from stream_detector.records import Kind, Outcome, Partition, digest, episode_digest
from tests.fakes import NumpyScorer, model
from tests.pipeline.loop_case import (
    EVENTS,
    KNOWN,
    LETTERS,
    MINUTE,
    T0,
    TOPIC,
    Case,
    headers,
    noise,
    spiked,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.records import Verdicts


def statuses(case: Case, kind: str = "anomaly") -> list[str]:
    return [event["status"] for event in case.events if event["kind"] == kind]


# From a sample to an event


def test_a_spike_becomes_an_event_that_names_what_was_seen_and_what_was_expected() -> None:
    case = Case()
    values = spiked()
    case.samples("pump", values)
    case.run()
    message = case.broker.messages(EVENTS)[0]
    event = case.events[0]
    time = T0 + 100 * MINUTE
    assert message.key == b"pump"
    assert (event["kind"], event["status"], event["seq"]) == ("anomaly", "opened", 0)
    assert (event["started_at"], event["window_end"]) == (time, time)
    assert event["window_start"] == time - 59 * MINUTE
    assert event["observed"] == {"value": pytest.approx(values[100], rel=1e-5)}
    assert event["expected"] == {"value": 0.0}
    assert event["contribution"] == {"value": pytest.approx(values[100] ** 2, rel=1e-4)}
    assert event["level"] >= event["threshold"] == 3.0
    assert event["source"] == {"topic": TOPIC, "partition": 0, "offset": 100}
    found = headers(message)
    assert found["ce_id"] == digest("plant", "pump", "anomaly", "opened", time, time)
    assert event["episode_id"] == episode_digest("plant", "pump", Kind.ANOMALY, time)
    assert found["ce_type"] == "stream-detector.anomaly.opened"
    assert (found["ce_source"], found["ce_subject"]) == ("plant", "pump")
    assert case.committed == {0: 400}


def test_a_calm_series_beside_a_spiking_one_raises_nothing() -> None:
    case = Case()
    case.samples("calm", noise(400, seed=1) / 2)
    case.samples("pump", spiked())
    case.run()
    assert {event["series"] for event in case.events} == {"pump"}
    assert case.telemetry.outcomes == {"accepted": 800}
    assert case.telemetry.windows == 2 * (400 - 59)


def test_an_episode_closes_after_exactly_the_quiet_period() -> None:
    levels: dict[int, bool] = {}

    class Store:
        def record(self, verdicts: Verdicts) -> None:
            for at, level in zip(
                verdicts.batch.timestamp.tolist(), verdicts.level.tolist(), strict=True
            ):
                levels[at] = level >= 3.0

        def close(self) -> None: ...

    case = Case(policy=Policy(quiet_period=17), store=Store())
    case.samples("pump", spiked())
    case.run()
    assert statuses(case)[0] == "opened"
    assert statuses(case)[-1] == "closed"
    closed = case.events[-1]
    assert closed["close_reason"] == "recovered"
    end = closed["window_end"]
    assert not any(levels[end - k * MINUTE] for k in range(17))
    assert levels[end - 17 * MINUTE]


def test_updates_keep_to_their_interval_unless_things_get_worse() -> None:
    case = Case(policy=Policy(update_every=20 * MINUTE))
    values = noise(700)
    values[100:400] += 5
    case.samples("pump", values)
    case.run()
    events = case.events
    assert statuses(case) == ["opened", *["updated"] * (len(events) - 2), "closed"]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert len({event["episode_id"] for event in events}) == 1
    ranks = ["minor", "major", "critical"]
    pairs = list(pairwise(events[:-1]))
    assert len(pairs) >= 10
    for before, after in pairs:
        worse = ranks.index(after["severity"]) > ranks.index(before["severity"])
        assert worse or after["window_end"] - before["window_end"] == 20 * MINUTE


def test_messages_carry_a_latency_only_for_the_records_that_caused_them() -> None:
    case = Case()
    case.clock.time = T0 / 1000 + 60 * 400
    case.samples("pump", spiked())
    case.run()
    latencies = [second for turn in case.telemetry.turns for second in turn.event_latencies]
    assert max(latencies) == pytest.approx(60 * 300)
    assert len(latencies) == len(case.events)


# Order in time


def test_late_and_duplicate_samples_are_counted_and_change_nothing() -> None:
    plain, mixed = Case(), Case()
    values = spiked()
    plain.samples("pump", values)
    for at, value in enumerate(values):
        mixed.samples("pump", [value], at)
        if at % 50 == 20:
            mixed.samples("pump", [99.0], at)
            mixed.samples("pump", [99.0, 99.0], at - 5)
    for case in (plain, mixed):
        case.run()
    assert mixed.telemetry.outcomes == {"accepted": 400, "duplicate": 8, "late": 16}
    assert not mixed.letters
    assert [e["episode_id"] for e in mixed.events] == [e["episode_id"] for e in plain.events]


def test_after_some_late_samples_in_a_row_the_series_starts_anew_with_a_gap() -> None:
    case = Case(policy=Policy(restart_after_late=4))
    case.samples("pump", noise(200), first=1_000_000)
    case.samples("pump", noise(400))
    case.run()
    assert case.telemetry.outcomes == {"accepted": 200 + 397, "late": 3}
    opened, closed = [event for event in case.events if event["kind"] == "gap"]
    assert (opened["status"], opened["started_at"]) == ("opened", T0 + 3 * MINUTE)
    assert opened["observed"] == {}
    assert (closed["status"], closed["close_reason"]) == ("closed", "recovered")
    assert closed["started_at"] == opened["started_at"] < closed["window_end"]


# Delivery


@pytest.mark.parametrize("topic", [EVENTS, LETTERS])
def test_a_message_that_is_not_delivered_ends_the_loop_and_nothing_above_is_committed(
    topic: str,
) -> None:
    case = Case(max_batch=50)
    case.samples("pump", spiked(at=130))
    case.broker.append(TOPIC, b"?", timestamp=T0)
    case.broker.fail(topic, "disk full")
    with pytest.raises(SinkError, match="disk full"):
        case.run()
    case.source.close()
    assert case.committed == {0: 100 if topic == EVENTS else 400}
    case.broker.fail(topic, None)
    again = Case(broker=case.broker)
    again.run()
    assert again.committed == {0: 401}
    assert len(again.letters) == 1


def test_a_partition_that_moves_away_and_back_starts_with_fresh_state() -> None:
    one = Case(partitions=2, finite=False)
    one.samples("pump", noise(100), partition=0)
    one.samples("calm", noise(100), partition=1)
    one.loop.turn()
    assert sum(one.engine.series().values()) == 2
    assert set(one.engine.digest(Partition(TOPIC, 1))) == {"g"}
    two = Case(broker=one.broker, finite=False)
    for _ in range(4):
        two.loop.turn()
        one.loop.turn()
    moved = Partition(TOPIC, 1)
    assert one.engine.digest(moved) == {}
    assert sum(one.engine.series().values()) == 1
    one.samples("calm", noise(30), 100, partition=1)
    two.loop.turn()
    assert set(two.engine.digest(moved)) == {"g"}
    assert two.telemetry.windows == 0  # 30 samples make no window: nothing came along
    one.samples("calm", noise(40), 130, partition=1)
    two.source.close()
    for _ in range(3):
        one.loop.turn()
    assert one.telemetry.outcomes["accepted"] == 100 + 100 + 40
    assert one.telemetry.windows == 2 * 41  # 40 fresh samples on top make none either


# Models


class Feed:
    """ports.ModelFeed that hands over what it is told, once."""

    def __init__(self) -> None:
        self.ready: dict[str, Model] = {}

    def take(self) -> Mapping[str, Model]:
        ready, self.ready = self.ready, {}
        return ready

    def close(self) -> None: ...


def test_a_new_model_serves_from_the_next_batch_on_and_no_sample_is_skipped() -> None:
    feed = Feed()
    seen: list[tuple[int, str]] = []

    class Store:
        def record(self, verdicts: Verdicts) -> None:
            times = verdicts.batch.timestamp.tolist()
            seen.extend((at, verdicts.model_version) for at in times)

        def close(self) -> None: ...

    case = Case(feed=feed, store=Store(), max_batch=90, finite=False)
    case.samples("pump", noise(900))
    for turn in range(10):
        if turn == 4:
            feed.ready = {"g": model(known=KNOWN, version="v2")}
        case.loop.turn()
    assert seen == [(T0 + n * MINUTE, "v1" if n < 360 else "v2") for n in range(900)]
    assert case.telemetry.outcomes == {"accepted": 900}
    assert case.telemetry.windows == 900 - 59
    assert case.telemetry.reloads == ["swapped"]
    assert case.telemetry.models == [("g", "v1"), ("g", "v2")]


@pytest.mark.parametrize(
    "other",
    [
        model(("a", "b"), version="v2"),
        model(scales=(1, 2), version="v2"),
        model(smoothing=5, version="v2"),
    ],
    ids=["features", "scales", "smoothing"],
)
def test_a_model_that_does_not_fit_the_state_is_refused_and_the_old_one_serves(
    other: Model, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed()
    case = Case(feed=feed)
    case.samples("pump", spiked())
    feed.ready = {"g": other}
    case.run()
    assert case.telemetry.reloads == ["incompatible"]
    assert case.telemetry.models == [("g", "v1")]
    assert {event["model_version"] for event in case.events} == {"v1"}
    assert case.telemetry.outcomes == {"accepted": 400}
    assert "not swapped in live" in caplog.text


def test_a_rollback_from_a_model_that_did_not_fit_forgets_nothing() -> None:
    feed = Feed()
    case = Case(feed=feed, max_batch=100)
    case.samples("new", spiked(at=350))
    for turn in range(4):
        if turn == 2:
            feed.ready = {"g": model(smoothing=5, version="v2")}
        if turn == 3:
            feed.ready = {"g": model(known=KNOWN)}
        case.loop.turn()
    assert case.telemetry.reloads == ["incompatible"]
    assert {event["started_at"] for event in case.events} == {T0 + 350 * MINUTE}


class BrokenScorer(NumpyScorer):
    """Says NaN or infinity of windows that end with a value above 10."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        answer = super().score(scale, windows, center, spread)
        answer.scores[windows[:, -1, 0] > 10, 1] = self._value
        return answer


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_faults_of_the_model_and_no_anomaly(value: float) -> None:
    values = noise(400)
    values[100::50] = 12.0
    sound, broken = Case(), Case(models={"g": model(known=KNOWN, scorer=BrokenScorer(value))})
    for case in (sound, broken):
        case.samples("pump", values)
        case.run()
    assert sound.telemetry.faults == 0
    assert sound.events[0]["started_at"] == T0 + 100 * MINUTE
    assert broken.telemetry.faults == 6
    assert broken.telemetry.windows == 400 - 59 - 6
    hit = {T0 + n * MINUTE for n in range(100, 400, 50)}
    assert not hit & {event["window_end"] for event in broken.events if event["seq"] == 0}


def test_a_model_that_only_ever_fails_raises_nothing_and_stops_nothing() -> None:
    class Dead(NumpyScorer):
        def score(
            self,
            scale: int,
            windows: NDArray[np.float32],
            center: NDArray[np.float32],
            spread: NDArray[np.float32],
        ) -> Scores:
            answer = super().score(scale, windows, center, spread)
            answer.scores[:] = np.nan
            return answer

    case = Case(models={"g": model(known=KNOWN, scorer=Dead())})
    case.samples("pump", spiked())
    case.run()
    assert not case.events
    assert case.telemetry.faults == 341
    assert case.telemetry.outcomes == {"accepted": 400}


# What is kept


def test_every_sample_that_was_judged_reaches_the_store_with_its_verdict() -> None:
    kept: list[Verdicts] = []

    class Store:
        def record(self, verdicts: Verdicts) -> None:
            kept.append(verdicts)

        def close(self) -> None: ...

    case = Case(store=Store(), max_batch=64)
    values = spiked()
    case.samples("pump", values)
    case.samples("pump", [5.0], 100)
    case.append(b"?")
    case.run()
    stored = np.concatenate([part.batch.values[:, 0] for part in kept])
    outcome = np.concatenate([part.outcome for part in kept])
    assert stored.tolist() == [*values.tolist(), 5.0]
    assert outcome.tolist() == [*[Outcome.ACCEPTED] * 400, Outcome.LATE]
    level = np.concatenate([part.level for part in kept])
    anomalous = np.concatenate([part.anomalous for part in kept])
    assert np.isnan(level[:59]).all()
    assert np.isfinite(level[59:400]).all()
    assert level[100] > 3
    assert anomalous[100]
    assert not anomalous[:100].any()


def test_each_turn_tells_how_much_came_how_long_it_took_and_how_far_behind_it_is() -> None:
    case = Case(max_batch=100)
    case.samples("pump", noise(250))
    case.clock.time = T0 / 1000 + 1000 * 60
    case.run()
    turns = case.telemetry.turns
    assert [turn.polled for turn in turns] == [100, 100, 50, 0]
    behind = [turn.event_time_lag for turn in turns]
    assert behind == [60.0 * n for n in (901, 801, 751)] + [None]
    assert set(turns[0].stages) >= {"poll", "decode", "engine", "score", "publish"}
    assert not turns[-1].stages
    assert turns[0].series == {"learning": 0, "warming": 0, "mature": 1, "recovering": 0}
    assert case.telemetry.lags[0] == {Partition(TOPIC, 0): 150}


def test_stages_are_those_that_the_metrics_know() -> None:
    from stream_detector.adapters.prometheus.catalogue import STAGES  # noqa: PLC0415 - only here

    class Store:
        def record(self, verdicts: Verdicts) -> None: ...
        def close(self) -> None: ...

    case = Case(store=Store())
    case.samples("pump", noise(100))
    case.run()
    assert set(case.telemetry.turns[0].stages) <= set(STAGES)
