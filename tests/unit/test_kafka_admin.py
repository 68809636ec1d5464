"""Questions to the brokers: asked again while another of them may answer, else refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import errors

from stream_detector import config
from stream_detector.adapters.kafka import admin, committed, topics
from stream_detector.ports import SourceError

KAFKA = config.Kafka(bootstrap_servers=["a:1", "b:1"], group_id="group")


class Client:
    """Raises what it is to raise, one a client, then knows no topic and no commit."""

    failures: list[Exception]
    made = 0

    def __init__(self, **_: Any) -> None:
        type(self).made += 1

    def close(self) -> None: ...

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        if self.failures:
            raise self.failures.pop(0)
        return [{"name": name, "partitions": [], "error_code": 3} for name in names]

    def list_group_offsets(self, group: str) -> dict[str, Any]:
        self.describe_topics([])
        return {group: {}}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    made = type("Made", (Client,), {"failures": [], "made": 0})
    monkeypatch.setattr(admin, "KafkaAdminClient", made)
    monkeypatch.setattr("stream_detector.adapters.kafka.admin.time.sleep", lambda _: None)
    return made


@pytest.mark.parametrize("ask", [lambda: topics(KAFKA, ["t"]), lambda: committed(KAFKA)])
def test_while_one_broker_of_several_is_down_the_others_are_asked(
    client: type[Client], ask: Any
) -> None:
    client.failures = [errors.KafkaConnectionError("refused"), errors.NotControllerError()]
    assert ask() == {}
    assert client.made == 3


def test_what_does_not_heal_is_refused_at_once(client: type[Client]) -> None:
    client.failures = [errors.TopicAuthorizationFailedError("t")]
    with pytest.raises(SourceError, match="grant this user READ"):
        topics(KAFKA, ["t"])
    assert client.made == 1


def test_in_vain_for_half_a_minute_is_enough(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 100, 10))
    monkeypatch.setattr("stream_detector.adapters.kafka.admin.time.monotonic", lambda: next(now))
    client.failures = [errors.KafkaConnectionError("refused") for _ in range(9)]
    with pytest.raises(SourceError, match=r"Kafka at a:1,b:1: .*refused"):
        topics(KAFKA, ["t"])
    assert client.made == 4
