"""Where the Kafka tests find their broker."""

from __future__ import annotations

import pytest

from tests.kafka.broker import BrokerUnavailableError, broker


def test_a_given_broker_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "one:9092, two:9092")
    with broker() as servers:
        assert servers == ["one:9092", "two:9092"]


def test_without_any_the_message_names_every_way_to_give_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailableError) as caught, broker():
        pass
    for way in ("KAFKA_BOOTSTRAP_SERVERS", "Docker", "KAFKA_TEST_IMAGE", "Java", "Maven"):
        assert way in str(caught.value)
