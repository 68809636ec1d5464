"""The broker in memory puts a key where Kafka's own clients put it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as reference

from stream_detector.adapters.memory import murmur2


@given(st.binary(max_size=40))
def test_the_hash_of_every_key_is_that_of_kafkas_clients(key: bytes) -> None:
    assert murmur2(key) == reference(key)
