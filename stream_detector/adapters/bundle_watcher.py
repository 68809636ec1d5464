"""Watches registries; hands over new models that are loaded, verified and warm.

Knows folders and threads only; how a bundle becomes a model is handed in.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from stream_detector.bundle import BundleError, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model

log = logging.getLogger(__name__)

Fingerprint = tuple[object, ...]


class BundleWatcher:
    """Implements ModelFeed: a thread looks at every CURRENT each `every` seconds.

    `serving` is group -> version that is served at the start. `load` makes a model of a bundle
    whose digests are right; it verifies the golden vectors and warms up, and may raise anything.
    `report(group, outcome, detail)` is called on the watcher's thread: `refused` for a bundle that
    cannot be used, `absent` where a registry has no CURRENT any more. The old model keeps serving
    in either case, and neither is repeated before something changes.
    """

    def __init__(
        self,
        registries: Mapping[str, Path],
        serving: Mapping[str, str],
        load: Callable[[Bundle], Model],
        every: float,
        report: Callable[[str, str, str], None],
    ) -> None:
        self._registries = {group: Registry(path) for group, path in registries.items()}
        self._serving = dict(serving)
        self._load = load
        self._every = every
        self._report = report
        self._told: dict[str, Fingerprint] = {}  # what was last reported of a group
        self._doubted: dict[str, str] = {}  # what was wrong with CURRENT at the last look
        self._refused: dict[str, Fingerprint] = {}  # what will not be tried again as it is
        self._ready: dict[str, Model] = {}
        self._lock = threading.Lock()  # held for dictionary operations only
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bundle-watcher", daemon=True)
        self._thread.start()

    def take(self) -> Mapping[str, Model]:
        """Group -> model that became ready since the last call. Never waits for a load."""
        with self._lock:
            if not self._ready:
                return {}
            ready, self._ready = self._ready, {}
            self._serving.update({group: model.bundle.version for group, model in ready.items()})
        return ready

    def close(self, timeout: float = 5.0) -> None:
        """Stop looking; a load that is under way is left behind after `timeout` seconds."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            moved = False
            for group, registry in self._registries.items():
                if self._stop.is_set():
                    return
                try:
                    moved |= self._look(group, registry)
                except Exception:
                    log.exception("looking at %s for group %s failed", registry.path, group)
            if not moved:
                self._stop.wait(self._every)

    def _look(self, group: str, registry: Registry) -> bool:
        """True where CURRENT moved on while its bundle was being loaded: look again at once."""
        version = self._wanted(group, registry)
        if version is None:
            return False
        fingerprint = _fingerprint(registry.path / version)
        if self._refused.get(group) == fingerprint:
            return False
        try:
            model = self._load(registry.load(version))
        except Exception as error:  # noqa: BLE001 - whatever a broken bundle does, the old one serves
            if not isinstance(error.__cause__, OSError):  # a file that cannot be read may come back
                self._refused[group] = fingerprint
            detail = " ".join(str(error).split()) or type(error).__name__
            self._tell(group, "refused", detail, fingerprint)
            return False
        if _current(registry) != version:
            return True
        self._told.pop(group, None)
        with self._lock:
            self._ready[group] = model
        return False

    def _wanted(self, group: str, registry: Registry) -> str | None:
        """The promoted version, where it is neither served nor waiting to be taken."""
        try:
            version = registry.current()
        except BundleError as error:
            # Written by hand, CURRENT is empty for a moment: only what stays so is told.
            if self._doubted.get(group) == str(error):
                present = (registry.path / "CURRENT").exists()
                self._tell(group, "refused" if present else "absent", str(error), (str(error),))
            self._doubted[group] = str(error)
            return None
        self._doubted.pop(group, None)
        with self._lock:
            ready = self._ready.get(group)
            if ready is not None and ready.bundle.version != version:
                del self._ready[group]  # promoted over or rolled back before the loop took it
                ready = None
            if version == (ready.bundle.version if ready else self._serving.get(group)):
                self._told.pop(group, None)
                return None
        return version

    def _tell(self, group: str, outcome: str, detail: str, fingerprint: Fingerprint) -> None:
        if self._told.get(group) != (outcome, *fingerprint):
            self._told[group] = (outcome, *fingerprint)
            self._report(group, outcome, detail)


def _current(registry: Registry) -> str | None:
    try:
        return registry.current()
    except BundleError:
        return None


def _fingerprint(folder: Path) -> Fingerprint:
    """Changes when a file of the bundle does; costs a few calls of stat."""
    try:
        files = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    except OSError:
        return (folder.name,)
    return (folder.name, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in files))
