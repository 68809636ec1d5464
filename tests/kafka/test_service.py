"""`stream-detector run` as a process on a real broker, with a trained model; `check` beside it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stream_detector.adapters.store import ParquetStoreReader
from stream_detector.cli import execute
from stream_detector.config import Store
from tests.kafka.service_case import STEPS, samples
from tests.service import Command, until
from tests.unit.trainer_cases import START

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.records import Message
    from tests.kafka.service_case import Place

pytestmark = pytest.mark.kafka

NAMED = (
    "samples_total",
    "windows_scored_total",
    "reconstruction_error_bucket",
    "score_ratio_bucket",
    "events_total",
    "dead_letters_total",
    "stage_seconds_bucket",
    "event_latency_seconds_bucket",
    "consumer_lag_records",
    "event_time_lag_seconds",
    "series",
    "model_info",
    "model_reloads_total",
)
"""Every metric that DESIGN.md promises."""


@pytest.fixture(scope="module", autouse=True)
def doomed(
    kafka_servers: list[str], trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Command]]:
    """Services that cannot work, started first: some of them take a minute to be sure of it."""
    folder = tmp_path_factory.mktemp("doomed")
    usual: dict[str, Any] = {"kafka": {"bootstrap_servers": kafka_servers, "group_id": "doomed"}}
    usual |= {"input": {"topics": ["no-such-topic"]}, "http": {"port": 0}, "device": "cpu"}
    usual |= {"output": {"topic": "a", "dead_letter_topic": "b"}}
    usual |= {"model": {"registry": str(trained)}}
    wrong: dict[str, dict[str, Any]] = {
        "topic": {},
        "broker": {"kafka": {"bootstrap_servers": ["127.0.0.1:9"], "group_id": "doomed"}},
        "registry": {"model": {"registry": str(folder / "nowhere")}},
        "port": {"http": {"host": "203.0.113.1", "port": 1}},
    }
    commands = {}
    for name, changes in wrong.items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(usual | changes))
        commands[name] = Command(folder / f"{name}.log", "run", "--config", str(path))
    yield commands
    for command in commands.values():
        command.close()


def headers(message: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers}


def test_the_service_says_what_a_replay_of_the_same_samples_says_and_shows_its_figures(
    place: Place,
) -> None:
    with place.service() as service:
        until(lambda: service.get("/livez")[0] == 200, "the service to be alive")
        service.ready()
        before = {name: service.value(name) for name in NAMED}
        place.produce(samples())
        bad = b'{"series": "s0", "timestamp": 12, \xff'
        sent = place.producer.send(
            place.input, key=b"\x00key", value=bad, timestamp_ms=START, partition=2
        ).get(30)
        half = json.dumps([{"series": "extra", "timestamp": START, "value": 1}, 5]).encode()
        place.producer.send(place.input, value=half, timestamp_ms=START, partition=2).get(30)
        until(lambda: service.value("records_total") == place.count + 2, "all records to be read")
        until(lambda: service.value("consumer_lag_records") == 0, "the lag to be gone")
        until(lambda: service.value("series", state="mature") >= 7, "the series to be mature")

        ids = place.event_ids()
        assert len(ids) == len(set(ids)) >= 2 * 6
        assert set(ids) == set(place.replay("all", [each.value for each in samples()]))

        letters = place.broker.messages(place.letters)
        malformed = next(each for each in letters if each.key is not None)
        assert (malformed.key, malformed.value) == (b"\x00key", bad)
        found = headers(malformed)
        assert found.pop("dlq_detail")
        assert found == {
            "dlq_reason": "malformed",
            "dlq_topic": place.input,
            "dlq_partition": "2",
            "dlq_offset": str(sent.offset),
            "dlq_timestamp": str(START),
        }
        other = next(each for each in letters if each.key is None)
        assert (other.value, headers(other)["dlq_index"]) == (half, "1")

        metrics = service.get("/metrics")[1]
        for name in NAMED:
            assert f"\nstream_detector_{name}" in metrics, name
        after = {name: service.value(name) for name in NAMED}
        still = {"consumer_lag_records", "model_info", "model_reloads_total"}
        assert {name for name in NAMED if after[name] == before[name]} == still
        assert service.value("samples_total", outcome="accepted") == place.count + 1
        assert service.value("events_total", status="opened") >= 6
        assert service.value("dead_letters_total") == 2
        assert service.value("stage_seconds_count", stage="other") == 0
        assert service.value("model_info", version=place.registry.current()) == 1
        status, body = service.get("/readyz")
        assert (status, json.loads(body) != {}) == (200, True)

        assert service.terminate() == 0
        assert place.committed() == place.ends()
        assert "Traceback" not in service.output
        assert "stopped, offsets committed" in service.output


def test_a_service_that_is_stopped_halfway_goes_on_as_if_it_had_not_been(place: Place) -> None:
    place.produce(samples())
    with place.service(limits={"max_batch": 8}) as first:
        until(lambda: first.value("records_total") > 1500, "some records to be read")
        assert first.terminate() == 0
        assert "Traceback" not in first.output
    done = sum(place.committed().values())
    assert 1500 < done < place.count  # it had not come to the end

    with place.service() as second:
        until(lambda: second.value("records_total") == place.count - done, "the rest to be read")
        until(lambda: second.value("consumer_lag_records") == 0, "the lag to be gone")
        assert second.value("samples_total") == place.count - done
        assert second.value("replayed_records_total") == done
        assert second.value("restores_total", outcome="exact") == 4
        assert second.terminate() == 0
    assert place.committed() == place.ends()
    assert sorted(place.event_ids()) == sorted(place.replay("all", *place.records().values()))


def test_a_service_that_is_killed_again_and_again_loses_no_event_and_makes_up_none(
    place: Place,
) -> None:
    place.produce(samples())
    settings = {
        "limits": {"max_batch": 8},
        "snapshots": {"url": str(place.folder / "snapshots"), "every": "200ms"},
    }
    restored = dict.fromkeys(("new", "exact", "older", "partial", "bounded"), 0.0)
    for share in (0.2, 0.4, 0.6):
        with place.service(**settings) as service:
            until(lambda: sum(place.committed().values()) > share * place.count, "commits")  # noqa: B023
            for outcome in restored:
                restored[outcome] += service.value("restores_total", outcome=outcome)
            service.process.kill()
    assert restored["new"] == 4
    assert restored["exact"] >= 1
    assert restored["older"] == restored["partial"] == restored["bounded"] == 0

    with place.service(**settings) as last:
        until(lambda: sum(place.committed().values()) == place.count, "the rest to be read")
        assert last.value("restores_total", outcome="exact") == 4
        assert 0 < last.value("replayed_records_total") < 0.6 * place.count
        assert last.value("snapshots_total", outcome="written") > 0
        assert last.terminate() == 0
    assert set(place.event_ids()) == set(place.replay("all", *place.records().values()))
    files = list((place.folder / "snapshots").rglob("*.state"))
    assert 8 <= len(files) <= 16


def test_new_models_are_served_and_broken_ones_refused_while_no_sample_is_skipped(
    place: Place,
) -> None:
    old = place.registry.current()
    (new,) = set(place.registry.versions()) - {old}
    pieces = iter(samples(at, at + 10) for at in range(0, STEPS, 10))
    with place.service(store={"url": str(place.folder / "store")}) as service:
        service.ready()
        for _ in range(10):
            place.produce(next(pieces))
        place.registry.promote(new)

        def served() -> bool:
            place.produce(next(pieces))
            return service.value("model_info", version=new) == 1

        until(served, "the new model to serve")
        assert service.value("model_info") == 1
        assert service.value("model_reloads_total", outcome="swapped") == 1

        broken = place.registry.path / "20990101T000000-broken"
        shutil.copytree(place.registry.path / new, broken)
        manifest = json.loads((broken / "manifest.json").read_text())
        (broken / "manifest.json").write_text(json.dumps(manifest | {"version": broken.name}))
        module = broken / "model-1.pt"
        module.write_bytes(module.read_bytes()[:2000])
        (place.registry.path / "CURRENT").write_text(broken.name + "\n")
        until(lambda: service.value("model_reloads_total", outcome="refused") == 1, "a refusal")
        for _ in range(5):
            place.produce(next(pieces))
        until(lambda: service.value("records_total") == place.count, "all records to be read")
        assert service.value("model_info", version=new) == service.value("model_info") == 1
        assert service.value("samples_total", outcome="accepted") == place.count
        assert service.value("samples_total") == place.count
        assert service.terminate() == 0
        assert "the old one serves on" in service.output
        assert "Traceback" not in service.output
    assert place.committed() == place.ends()
    stored = ParquetStoreReader(Store(url=str(place.folder / "store"))).read("*")
    kept = Counter(zip(stored.code.tolist(), stored.timestamp.tolist(), strict=True))
    assert len(kept) == len(stored.timestamp) == place.count


def check(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = execute(["check", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_check_creates_the_topics_for_output_and_tells_what_this_machine_can_take(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {"topic": f"{place.input}-events", "dead_letter_topic": f"{place.input}-letters"}
    config = str(place.config(output=outputs))
    code, out, err = check("--config", config, capsys=capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"stream-detector: no topic {outputs['topic']}, ")
    assert err.count("\n") == 1
    assert "--create-topics" in err

    code, out, _ = check("--config", config, "--create-topics", "--json", capsys=capsys)
    assert code == 0
    report = json.loads(out)
    assert report["topics"] == {
        name: {"partitions": 4} for name in (place.input, *outputs.values())
    }
    (group,) = report["groups"]
    assert group["version"] == place.registry.current()
    assert group["windows_per_second"] > 100
    assert group["bytes_per_series"] > 60 * 4

    code, out, _ = check("--config", config, capsys=capsys)
    assert (code, out.splitlines()[-1]) == (0, "ready to run")


def test_check_refuses_a_compacted_input_and_knows_when_the_input_is_missing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    compacted = place.broker.topic(1, {"cleanup.policy": "compact"})
    config = place.config(input={"topics": [compacted]})
    code, _, err = check("--config", str(config), capsys=capsys)
    assert code == 2
    assert f"input topic {compacted} is compacted" in err
    config = place.config(input={"topics": ["no-such-input"]})
    code, _, err = check("--config", str(config), "--create-topics", capsys=capsys)
    assert code == 1
    assert "no topic no-such-input on" in err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("registry", "no CURRENT bundle; `stream-trainer fit"),
        ("port", "203.0.113.1"),
        ("broker", "Kafka at 127.0.0.1:9: "),
        ("topic", "no topic 'no-such-topic', or no right to see it"),
    ],
)
def test_a_service_that_cannot_work_says_why_in_one_line(
    name: str, words: str, doomed: dict[str, Command]
) -> None:
    command = doomed[name]
    assert command.wait(120) == 1
    *log, last = command.output.splitlines()
    assert last.startswith("stream-detector: ")
    assert words in last
    assert "Traceback" not in command.output
    assert sum(line.startswith("stream-detector: ") for line in log) == 0
