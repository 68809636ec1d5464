"""How state survives a restart: snapshots, and what is read again."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream_detector.config.kinds import Count, Duration, Positive, Section


class Snapshots(Section, frozen=True, kw_only=True):
    url: Annotated[
        str | None,
        Meta(
            description="Folder or object store (s3://...) of snapshots, reached by every worker; "
            "null takes none."
        ),
    ] = None
    every: Annotated[
        Duration,
        Meta(
            description="A snapshot of each partition is taken this often; what came since the "
            "last one is read again after a restart."
        ),
    ] = "5m"
    keep: Annotated[
        Count, Meta(description="Snapshots of each partition that are kept, to fall back to.")
    ] = 2


class Restore(Section, frozen=True, kw_only=True):
    max_replay: Annotated[
        Annotated[int, Meta(ge=0)],
        Meta(
            description="Records of each partition that are read again at most where there is no "
            "usable snapshot; a state that older ones had shaped is then not quite the same."
        ),
    ] = 100_000
    target_seconds: Annotated[
        Positive,
        Meta(
            description="Seconds that reading again may take at a restart, all partitions "
            "together: where many samples come in, snapshots are taken more often than "
            "`snapshots.every`."
        ),
    ] = 10.0
