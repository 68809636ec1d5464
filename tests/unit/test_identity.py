"""A worker's transactional id: its own over restarts, and nobody else's."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from stream_detector.commands.identity import transactional_id
from stream_detector.config import ConfigError, Kafka

if TYPE_CHECKING:
    from pathlib import Path


def kafka(group: str = "plant", name: str | None = None, instance: str | None = None) -> Kafka:
    return Kafka(
        bootstrap_servers=["a:1"],
        group_id=group,
        transactional_id=name,
        group_instance_id=instance,
    )


def test_workers_on_one_host_get_ids_of_their_own_and_one_that_restarts_gets_its_own_again(
    tmp_path: Path,
) -> None:
    with ExitStack() as first, ExitStack() as third:
        with ExitStack() as second:
            ids = [transactional_id(kafka(), s, tmp_path) for s in (first, second, third)]
        assert len(set(ids)) == 3
        assert all(name.startswith("plant-") for name in ids)
        assert transactional_id(kafka(), third, tmp_path) == ids[1]
        assert transactional_id(kafka("other"), third, tmp_path) not in ids


def test_the_configured_id_is_taken_as_it_is(tmp_path: Path) -> None:
    with ExitStack() as stack:
        assert transactional_id(kafka(name="worker-7"), stack, tmp_path) == "worker-7"
        assert transactional_id(kafka(instance="pod-3"), stack, tmp_path) == "plant-pod-3"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_asks_for_an_id(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(ConfigError, match=r"kafka.transactional_id: set one"):
        transactional_id(kafka(), stack, tmp_path / "absent")
