"""Another number of partitions than the group's state was made with: keys lie elsewhere now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream_detector.records import Partition

OnRepartition = Literal["refuse", "rewarm"]


def parts_of(metadata: str) -> int | None:
    """`parts` of a commit's metadata: how many partitions its topic had; None where it is absent.

    Metadata of other programs, or of versions that wrote none, is no fault.
    """
    try:
        found = json.loads(metadata) if metadata else None
    except (ValueError, RecursionError):
        return None
    parts = found.get("parts") if isinstance(found, dict) else None
    return parts if type(parts) is int and parts > 0 else None


def partitions_then(
    committed: Iterable[tuple[Partition, str]], now: Mapping[str, int]
) -> dict[str, int]:
    """Topic -> partitions as the group's commits (partition, metadata) know them.

    `now`: how many there are. Commits of partitions that are gone say nothing; of others the
    largest count is the newest, as partitions that bring nothing keep their old metadata.
    """
    then: dict[str, int] = {}
    for (topic, number), metadata in committed:
        parts = parts_of(metadata)
        if parts is not None and number < now.get(topic, 0):
            then[topic] = max(parts, then.get(topic, parts))
    return then


def changed(then: Mapping[str, int], now: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Topic -> partitions then and now, of those that differ."""
    return {
        topic: (then[topic], count)
        for topic, count in sorted(now.items())
        if then.get(topic, count) != count
    }


def objection(then: Mapping[str, int], now: Mapping[str, int], choice: OnRepartition) -> str | None:
    """Why the detector must not start, and the way out; None where it may."""
    found = changed(then, now)
    if not found or choice == "rewarm":
        return None
    told = ", ".join(f"{topic} has {b} partitions, it had {a}" for topic, (a, b) in found.items())
    return (
        f"input topic {told} at the group's last commit: series now lie in other partitions than "
        "their state. Start once with --on-repartition rewarm, and series that moved are learnt "
        "anew; or copy the samples with `stream-detector rekey` into a topic that keeps its "
        "partitions"
    )
