"""Where the parts of a normal store lie, and what their columns and metadata are called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from stream_detector.config import ConfigError

if TYPE_CHECKING:
    from stream_detector.config import Store

DAY_MS = 86_400_000
METADATA = b"stream_detector.features"  # JSON {feature: column}, in feature order


def store_path(config: Store) -> Path:
    """The folder of the store. Raises ConfigError where the URL is not a local one."""
    if config.url is None:
        raise ConfigError("store.url: not set; name the folder of the normal store")
    parts = urlsplit(config.url)
    if parts.scheme == "file" and not parts.netloc:
        return Path(unquote(parts.path))
    if "://" in config.url:
        raise ConfigError(f"store.url: {parts.scheme}:// is not supported; name a local folder")
    return Path(config.url)


def group_folder(root: Path, group: str) -> Path:
    return root / f"group={quote(group, safe='')}"


def group_of(folder: Path) -> str:
    return unquote(folder.name.removeprefix("group="))
