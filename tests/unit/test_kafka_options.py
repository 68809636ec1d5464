"""What the configuration becomes in kafka-python's options, and errors in words."""

from __future__ import annotations

from kafka import KafkaConsumer, KafkaProducer, errors

from stream_detector import config
from stream_detector.adapters.kafka.client import consumer_options, explain, heals, options
from stream_detector.adapters.kafka.sink import producer_options

SECURE = config.Kafka(
    bootstrap_servers=["a:9093", "b:9093"],
    group_id="plant",
    security_protocol="SASL_SSL",
    ssl_cafile="/ca.pem",
    ssl_certfile="/cert.pem",
    ssl_keyfile="/key.pem",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="detector",
    sasl_password="hunter2-secret",
    session_timeout="12s",
    max_poll_interval="3m",
    fetch_max_wait="20ms",
    group_instance_id="pod-3",
)
OUTPUT = config.Output(topic="anomalies", dead_letter_topic="dlq", delivery_timeout="20s")


def test_tls_and_sasl_reach_every_client() -> None:
    expected = {
        "bootstrap_servers": ["a:9093", "b:9093"],
        "security_protocol": "SASL_SSL",
        "ssl_cafile": "/ca.pem",
        "ssl_certfile": "/cert.pem",
        "ssl_keyfile": "/key.pem",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "detector",
        "sasl_plain_password": "hunter2-secret",
    }
    for made in (options(SECURE), consumer_options(SECURE, None), producer_options(SECURE, OUTPUT)):
        assert expected.items() <= made.items()


def test_the_consumer_takes_its_times_from_the_configuration_and_never_commits_by_itself() -> None:
    made = consumer_options(SECURE, None)
    assert made["group_id"] == "plant"
    assert made["group_instance_id"] == "pod-3"
    assert made["session_timeout_ms"] == 12_000
    assert made["heartbeat_interval_ms"] * 3 <= 12_000
    assert made["max_poll_interval_ms"] == 180_000
    assert made["fetch_max_wait_ms"] == 20
    assert made["enable_auto_commit"] is False
    assert made["auto_offset_reset"] == "none"


def test_the_producer_is_idempotent_and_waits_for_all_replicas() -> None:
    made = producer_options(SECURE, OUTPUT)
    assert made["enable_idempotence"] is True
    assert made["acks"] == "all"
    assert made["delivery_timeout_ms"] == 20_000
    # The client refuses a delivery timeout below these two together.
    assert made["request_timeout_ms"] + made["linger_ms"] <= 20_000


def test_every_option_is_one_that_the_client_knows() -> None:
    assert consumer_options(SECURE, None).keys() <= KafkaConsumer.DEFAULT_CONFIG.keys()
    assert producer_options(SECURE, OUTPUT).keys() <= KafkaProducer.DEFAULT_CONFIG.keys()


def test_no_secret_appears_in_what_people_read() -> None:
    error = errors.SaslAuthenticationFailedError("SCRAM failed\nfor detector")
    line = explain(SECURE, error)
    assert "hunter2" not in line + repr(SECURE) + str(SECURE)
    assert "\n" not in line
    assert "a:9093" in line
    assert "sasl_password" in line  # the remedy names the key, not its value


def test_errors_that_waiting_can_mend_are_told_from_those_that_it_cannot() -> None:
    healing = [errors.NotCoordinatorError, errors.KafkaConnectionError, errors.CommitFailedError]
    fatal = [
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.UnsupportedVersionError,
        errors.InconsistentGroupProtocolError,
    ]
    assert all(heals(kind()) for kind in healing)
    assert not any(heals(kind()) for kind in fatal)


def test_a_machine_whose_clock_is_ahead_is_told_to_set_it() -> None:
    text = "Timestamp 1796032106799 of message with offset 0 is out of range"
    for kind in (errors.InvalidTimestampError, errors.InvalidRecordError):
        line = explain(SECURE, kind(text))
        assert text in line
        assert "set this machine's clock right" in line
    assert "clock" not in explain(SECURE, errors.InvalidRecordError("one without a key"))
