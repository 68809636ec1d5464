"""Bundles that served before, loaded once more for a replay."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stream_detector.bundle import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model

log = logging.getLogger(__name__)


class BundleLibrary:
    """ports.ModelLibrary on the groups' registries; `load` makes a model of a verified bundle."""

    def __init__(self, registries: Mapping[str, Path], load: Callable[[Bundle], Model]) -> None:
        self._registries = {group: Registry(path) for group, path in registries.items()}
        self._load = load

    def load(self, group: str, version: str) -> Model | None:
        registry = self._registries.get(group)
        if registry is None or version not in registry.versions():
            return None
        try:
            return self._load(registry.load(version))
        except Exception as error:  # noqa: BLE001 - whatever a broken bundle does, another stands in
            log.error("group %s: bundle %s cannot be used: %s", group, version, error)  # noqa: TRY400 - one line
            return None
