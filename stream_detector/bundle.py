"""Bundles and registries on disk: manifest, digests, the CURRENT pointer. No torch here.

    registry/VERSION/{manifest.json, model-SCALE.pt, series.npz, golden.npz}   registry/CURRENT

The manifest is written last and lists the sha256 of every other file, so that a folder with a valid
manifest is whole. Files are read once, verified, and used from the very bytes that were verified.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stream_detector.arrays import (
    GOLDEN,
    SERIES,
    BundleError,
    Golden,
    SeriesTable,
    golden_to_bytes,
    read_npz,
)
from stream_detector.core.transforms import unfit
from stream_detector.manifest import (
    FORMAT_VERSION,
    WINDOW,
    Expert,
    Levels,
    Manifest,
    Normalisation,
    Smoothing,
    Tail,
    Threshold,
    TrainingData,
    Transform,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FORMAT_VERSION", "GOLDEN", "MANIFEST", "SERIES", "WINDOW",
    "Bundle", "BundleError", "Expert", "Golden", "Levels", "Manifest", "Normalisation", "Registry",
    "SeriesTable", "Smoothing", "Tail", "Threshold", "TrainingData", "Transform",
    "golden_to_bytes", "load_bundle", "module_name",
]  # fmt: skip

MANIFEST = "manifest.json"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle in memory."""

    path: Path
    manifest: Manifest
    series: SeriesTable
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def version(self) -> str:
        return self.manifest.version

    def module(self, scale: int) -> bytes:
        """The TorchScript archive of one scale."""
        return self.files[module_name(scale)]

    def golden(self, scale: int) -> Golden:
        names = ("windows", "center", "scale", "scores")
        arrays = read_npz(self.files[GOLDEN], GOLDEN, tuple(f"{name}_{scale}" for name in names))
        return Golden(**{name: arrays[f"{name}_{scale}"] for name in names})


def module_name(scale: int) -> str:
    return f"model-{scale}.pt"


def load_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in a folder. Raises BundleError where it is not as listed."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise BundleError(f"{path / MANIFEST}: {error.strerror}; not a whole bundle") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path / MANIFEST}: {error}") from error
    _check(manifest, path)
    files: dict[str, bytes] = {}
    for name, expected in manifest.sha256.items():
        try:
            data = (path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{path / name}: {error.strerror}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise BundleError(
                f"{path / name}: sha256 {found[:12]}... is not the manifest's {expected[:12]}...; "
                "the file was damaged or changed, publish the bundle again"
            )
        files[name] = data
    series = SeriesTable.from_bytes(files[SERIES])
    width = len(manifest.features)
    if series.center.shape != (len(series.row), width) or series.scale.shape != series.center.shape:
        raise BundleError(f"{path / SERIES}: not {width} features wide")
    rule, each = manifest.threshold, series.score_threshold
    if rule.needs_scores and rule.score is None and (each is None or np.isnan(each).all()):
        raise BundleError(f"{path / SERIES}: lacks the scores that threshold {rule.method} chose")
    return Bundle(path, manifest, series, files)


def _check(manifest: Manifest, path: Path) -> None:
    needed = {SERIES, GOLDEN, *(module_name(scale) for scale in manifest.scales)}
    problem = ""
    if manifest.format_version != FORMAT_VERSION:
        problem = (
            f"format version {manifest.format_version}, this program reads {FORMAT_VERSION}; "
            "train it again or update the program"
        )
    elif manifest.version != path.name:
        problem = f"version {manifest.version!r} in a folder named {path.name!r}"
    elif manifest.window != WINDOW:
        problem = f"window of {manifest.window} steps, must be {WINDOW}"
    elif not manifest.features or len(set(manifest.features)) != len(manifest.features):
        problem = "features must be named, each once"
    elif not manifest.scales or min(manifest.scales) < 1:
        problem = "scales must be whole numbers >= 1"
    elif wrong := unfit(manifest.transforms):
        problem = wrong
    elif not manifest.experts or any(e.scale not in manifest.scales for e in manifest.experts):
        problem = "every expert needs one of the scales"
    elif min(manifest.levels.spread, manifest.levels.excess, manifest.levels.rate) <= 0:
        problem = "spread, excess and rate of the levels must be above zero"
    elif missing := needed - manifest.sha256.keys():
        problem = f"no digest for {', '.join(sorted(missing))}"
    elif any(Path(name).name != name for name in manifest.sha256):
        problem = "file names must not hold a path"
    if problem:
        raise BundleError(f"{path / MANIFEST}: {problem}")


class Registry:
    """A folder of bundles, a CURRENT pointer, and the HISTORY of what was promoted."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def versions(self) -> list[str]:
        """Whole bundles, oldest first by name (names start with their time of creation)."""
        if not self.path.is_dir():
            return []
        return sorted(
            p.parent.name for p in self.path.glob(f"*/{MANIFEST}") if p.parent.name[0] != "."
        )

    def current(self) -> str:
        """The promoted version. Raises BundleError where there is none."""
        try:
            version = (self.path / "CURRENT").read_text("utf-8").strip()
        except FileNotFoundError:
            raise BundleError(
                f"{self.path}: no CURRENT bundle; `stream-trainer fit --out {self.path}` makes one"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{self.path / 'CURRENT'}: {error}") from error
        if not _VERSION.fullmatch(version):
            raise BundleError(f"{self.path / 'CURRENT'}: {version[:40]!r} is not a version")
        return version

    def load(self, version: str | None = None) -> Bundle:
        return load_bundle(self.path / (version or self.current()))

    def publish(self, manifest: Manifest, files: Mapping[str, bytes]) -> str:
        """Write a bundle whole or not at all, without promoting it; returns its version.

        Raises BundleError where another bundle has that version; the very same one may come again.
        """
        if not _VERSION.fullmatch(manifest.version):
            raise BundleError(f"{manifest.version!r} is not a version")
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        manifest = msgspec.structs.replace(manifest, sha256=digests)
        target = self.path / manifest.version
        _check(manifest, target)
        if target.exists():
            if load_bundle(target).manifest == manifest:  # the same, made twice in one second
                return manifest.version
            raise BundleError(f"{target}: exists already")
        self.path.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=self.path))
        try:
            staging.chmod(0o755)
            for name, data in files.items():
                _write(staging / name, data)
            encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
            _write(staging / MANIFEST, encoded)
            _sync_folder(staging)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _sync_folder(self.path)
        return manifest.version

    def promote(self, version: str) -> None:
        """Point CURRENT at a version after verifying it; one atomic rename."""
        self.load(version)
        with (self.path / "HISTORY").open("a", encoding="utf-8") as history:
            history.write(version + "\n")
        self._point(version)

    def rollback(self) -> str:
        """Point CURRENT back at the version promoted before it; returns that version."""
        path = self.path / "HISTORY"
        history = path.read_text("utf-8").split() if path.exists() else []
        if len(history) < 2:
            raise BundleError(f"{self.path}: nothing was promoted before {self.current()}")
        self.load(history[-2])
        _write(self.path / ".HISTORY", ("\n".join(history[:-1]) + "\n").encode())
        (self.path / ".HISTORY").replace(path)
        self._point(history[-2])
        return history[-2]

    def _point(self, version: str) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".CURRENT-", dir=self.path)
        os.close(descriptor)
        pointer = Path(name)
        pointer.chmod(0o644)
        _write(pointer, (version + "\n").encode())
        pointer.replace(self.path / "CURRENT")
        _sync_folder(self.path)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
