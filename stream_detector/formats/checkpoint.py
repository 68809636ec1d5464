"""What a commit says beside its offset: how the state at that offset can be had again."""

from __future__ import annotations

import msgspec

VERSION = 1
LIMIT = 4000
"""Bytes of metadata at most; brokers refuse more than 4,096 by default."""
CROWDED = 3000
"""From this many on a snapshot should be taken soon: it makes the list of models shorter."""


class Checkpoint(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"replay_from": "R", "snapshots": "snap", "doubted": "rec", "ticks": "tick"},
):
    """State at the commit's offset C is that of the newest snapshot, or no state at all, at R, and
    what the records [R, C) and the ticks between them made of it under these models.
    """

    v: int = VERSION
    replay_from: int
    snapshots: list[str] = []  # names, newest first
    cfg: str  # digest of the configuration that shapes state
    parts: int  # partitions of all input topics
    models: dict[str, list[tuple[int, str]]] = {}  # group -> version that served from an offset on
    doubted: int | None = None  # offset at which the state was had in part only
    ticks: list[tuple[int, int]] = []  # offset, ms UTC: nothing had come up to then before it


def encode(checkpoint: Checkpoint) -> str:
    """JSON of LIMIT bytes at most: where models or ticks are too many they are left out."""
    text = msgspec.json.encode(checkpoint)
    if len(text) > LIMIT:
        text = msgspec.json.encode(msgspec.structs.replace(checkpoint, models={}))
    if len(text) > LIMIT:
        text = msgspec.json.encode(msgspec.structs.replace(checkpoint, models={}, ticks=[]))
    return text.decode()


def decode(metadata: str) -> Checkpoint | None:
    """None where the commit is not one of ours, or of another version."""
    try:
        found = msgspec.json.decode(metadata, type=Checkpoint)
    except msgspec.MsgspecError:
        return None
    return found if found.v == VERSION else None
