"""Where a suite's files lie below the folder that the user names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from trainer.data import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def own_folder(data: Path, names: Sequence[str]) -> Path:
    """The folder of one of these names (any case) in `data`, else `data` itself."""
    wanted = {name.lower() for name in names}
    inner = sorted(one for one in data.iterdir() if one.is_dir() and one.name.lower() in wanted)
    return inner[0] if inner else data


def some(found: Iterable[Path], data: Path, title: str, origin: str) -> list[Path]:
    """These files, sorted by path. Raises DataError where there is none."""
    files = sorted(found)
    if not files:
        raise DataError(f"{data}: no file of {title} there; {origin}")
    return files


def arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays by name: of an npz file, or of NAME.npy files in a folder. Raises DataError."""
    try:
        if path.is_dir():
            return {name: np.load(path / f"{name}.npy", allow_pickle=False) for name in names}
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (KeyError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: {error}; needs arrays {', '.join(names)}") from error


def columns(values: NDArray[Any]) -> NDArray[np.float64]:
    """[n] or [n, F] of any number type -> [n, F]."""
    wide = values if values.ndim == 2 else values[:, np.newaxis]
    return np.ascontiguousarray(wide, dtype=np.float64)


def feature_names(count: int) -> list[str]:
    return ["value"] if count == 1 else [f"f{place}" for place in range(count)]
