"""`stream-trainer promote | rollback | list`: which bundle of a registry is CURRENT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from stream_detector.bundle import BundleError, Registry

Folder = Annotated[Path, typer.Option("--registry", help="Folder of bundles.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def promote(
    *,
    registry: Folder,
    version: Annotated[
        str | None, typer.Argument(help="Which bundle; left out, the newest.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle CURRENT after verifying its digests. Detectors take it up by themselves."""
    target = Registry(registry)
    versions = target.versions()
    if not versions:
        raise BundleError(f"{registry}: no bundle; `stream-trainer fit --out {registry}` makes one")
    chosen = version or versions[-1]
    if chosen not in versions:
        raise BundleError(f"{registry}: no bundle {chosen}; there are {', '.join(versions)}")
    before = _current(target)
    target.promote(chosen)
    _say({"current": chosen, "previous": before}, as_json=as_json)


def rollback(*, registry: Folder, as_json: AsJson = False) -> None:
    """Make the bundle that was promoted before the CURRENT one CURRENT again."""
    target = Registry(registry)
    before = target.current()
    _say({"current": target.rollback(), "previous": before}, as_json=as_json)


def list_versions(*, registry: Folder, as_json: AsJson = False) -> None:
    """List the bundles, oldest first; * marks the CURRENT one."""
    target = Registry(registry)
    current = _current(target)
    versions = [_describe(target, version) for version in target.versions()]
    if as_json:
        answer = {"registry": str(registry), "current": current, "versions": versions}
        typer.echo(msgspec.json.encode(answer).decode())
        return
    if not versions:
        typer.echo(f"{registry}: no bundles")
    for one in versions:
        mark = "*" if one["version"] == current else " "
        about = one.get("error") or (
            f"{one['model']}, scales {one['scales']}, {one['series']} series, {one['rows']:,} rows"
        )
        typer.echo(f"{mark} {one['version']}  {about}")


def _current(registry: Registry) -> str | None:
    try:
        return registry.current()
    except BundleError:
        return None


def _describe(registry: Registry, version: str) -> dict[str, Any]:
    try:
        manifest = registry.load(version).manifest
    except BundleError as error:
        return {"version": version, "error": str(error)}
    return {
        "version": version,
        "created": manifest.created,
        "model": manifest.model,
        "scales": manifest.scales,
        "features": manifest.features,
        "series": manifest.training.series,
        "rows": manifest.training.rows,
        "data_end": manifest.training.end,
        "metrics": manifest.metrics,
    }


def _say(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(answer).decode())
    else:
        typer.echo(f"CURRENT is {answer['current']}, was {answer['previous'] or 'not set'}")
