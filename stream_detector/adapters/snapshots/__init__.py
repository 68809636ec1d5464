"""Where snapshots lie: `URL/TOPIC-PARTITION/NAME.state`, in a folder or an object store.

Names in paths are percent-encoded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from stream_detector.adapters.snapshots.folder import FolderSnapshots

if TYPE_CHECKING:
    from stream_detector.ports import SnapshotStore

__all__ = ["FolderSnapshots", "local_folder", "open_snapshots"]


def local_folder(url: str) -> Path | None:
    """The folder that a URL means, of this machine or shared; None for an object store."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc:
        return Path(unquote(parts.path))
    return None if "://" in url else Path(url)


def open_snapshots(url: str, owner: str) -> SnapshotStore:
    """Snapshots of one consumer group, `owner`, at a local path or any URL that pyarrow knows.

    Raises ImportError where the URL needs pyarrow and there is none, SnapshotError where it means
    no file system.
    """
    folder = local_folder(url)
    below = quote(owner, safe="")
    if folder is not None:
        return FolderSnapshots(folder / below)
    from stream_detector.adapters.snapshots.remote import RemoteSnapshots  # noqa: PLC0415

    return RemoteSnapshots.at(url, below)
