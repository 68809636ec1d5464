"""`stream-trainer tune`: search the recipe that fits some data best, and write it as YAML.

Adapters come as Ports from cli.py; nothing here imports one.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream_detector.config import ConfigError, milliseconds
from trainer.config.recipes import load_config
from trainer.config.tune import Tune

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.commands.refresh import Ports
    from trainer.config import TrainerConfig
    from trainer.reading.training_set import TrainingSet
    from trainer.tuning.tune import Best

BETTER = {"validation_error": "less", "average_precision": "more", "recall": "more"}


def register(app: typer.Typer, ports: Callable[[], Ports]) -> None:
    """Add `tune` to the commands; `ports` is asked only when it runs."""

    @app.command("tune")
    def tune(
        *,
        config: Annotated[
            Path,
            typer.Option(
                help="trainer.yaml with a `tune` section, or the name of a recipe.",
                show_default=False,
            ),
        ],
        out: Annotated[
            Path,
            typer.Option(help="YAML file that the best recipe goes to.", show_default=False),
        ],
        data: Annotated[
            Path | None,
            typer.Option(help="File or folder to learn from. Overrules data.path."),
        ] = None,
        study: Annotated[
            Path | None,
            typer.Option(
                help="File that keeps the trials; one that exists is continued. Left out: beside "
                "--out, with the ending .study."
            ),
        ] = None,
        trials: Annotated[
            int | None,
            typer.Option(help="Trials in all, those in the study too. Overrules tune.trials."),
        ] = None,
        timeout: Annotated[
            str | None,
            typer.Option(help="No trial begins after this long, e.g. 2h. Overrules tune.timeout."),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object and nothing else.")
        ] = False,
    ) -> None:
        """Try recipes from a search space on the validation part, and keep the best.

        The space is in trainer.yaml, by dotted key; all other keys are as in `fit`:

        \b
        model: {name: dense_autoencoder}
        tune:
          objective: average_precision
          space:
            model.options.hidden: {values: [32, 64, 128]}
            fit.learning_rate: {low: 1e-3, high: 2e-2, log: true}

        Objectives: validation_error (the default) compares like models only. average_precision and
        recall (at the alarm budget) are of anomalies injected into the validation part, so they
        also compare architectures, scales, losses and scalings. The part that `fit` calibrates
        with is never looked at.

        Every trial is kept in the study file when it ends. The same command, run again after it
        was interrupted, goes on where it was; with more --trials it goes on searching.

        \b
        Example: stream-trainer tune --config trainer.yaml --data history.csv --out best.yaml
        Then:    stream-trainer fit --config best.yaml --data history.csv --out registry
        """  # noqa: D301  # the escape is click's: it keeps the lines of what follows
        settings = overruled(load_config(config), trials, timeout)
        place = data or (Path(settings.data.path) if settings.data.path else None)
        if place is None:
            raise ConfigError("nothing to learn from: give --data PATH, or data.path in --config")
        if not place.exists():
            raise ConfigError(f"{place}: no such file or folder")
        if out.resolve() == config.resolve():
            raise ConfigError(f"--out {out}: would overwrite --config; give another file")
        kept = study or out.with_suffix(".study")
        if kept.resolve() == out.resolve():
            raise ConfigError(f"--out {out}: is the study file too; give another ending, .yaml")
        for path in (out, kept):
            if not path.parent.is_dir():
                raise ConfigError(f"{path}: there is no folder {path.parent}")
        body = run(
            settings, place, ports(), out, kept, quiet=as_json, now=lambda: datetime.now(UTC)
        )
        typer.echo(msgspec.json.encode(body).decode() if as_json else told(body))


def overruled(settings: TrainerConfig, trials: int | None, timeout: str | None) -> TrainerConfig:
    """The configuration with what the command line overrules."""
    given = {"trials": trials, "timeout": timeout}
    try:
        tune = msgspec.convert(
            msgspec.to_builtins(settings.tune)
            | {name: value for name, value in given.items() if value is not None},
            Tune,
        )
    except msgspec.ValidationError as error:
        raise ConfigError(f"--trials, --timeout: {error}") from error
    return msgspec.structs.replace(settings, tune=tune)


def run(
    settings: TrainerConfig,
    place: Path,
    ports: Ports,
    out: Path,
    study: Path,
    *,
    quiet: bool,
    now: Callable[[], datetime],
) -> dict[str, Any]:
    """Search, and write the best recipe each time a better one is found; what --json prints."""
    from trainer.reading.training_set import training_set  # noqa: PLC0415
    from trainer.tuning.objective import Objective  # noqa: PLC0415  # torch takes seconds
    from trainer.tuning.space import Space, to_yaml  # noqa: PLC0415

    try:
        from trainer.tuning.tune import search  # noqa: PLC0415  # optuna is an extra
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError('tune needs optuna: pip install "stream-detector[tune]"') from error

    started = time.monotonic()
    dataset = training_set(place, settings.data)
    # What is compared here is told by data kept back, which `short` does without.
    settings = msgspec.structs.replace(settings, short=None)
    settings = settings.of(dataset.features, sum(len(one) for one in dataset.series))
    if settings.split.order == "whole":
        raise ConfigError("split.order: whole keeps nothing back for tune to measure by")
    space = Space(settings)
    objective = Objective(dataset, settings, space, ports.load)
    tune = settings.tune

    def write(best: Best) -> None:
        recipe = msgspec.structs.replace(space.recipe(best.params), tune=Tune())
        staged = out.with_name(f".{out.name}.tmp")
        staged.write_text(_head(best, tune.objective, place, now()) + to_yaml(recipe), "utf-8")
        staged.replace(out)

    best = search(
        space, objective, tune, study, _about(settings, dataset), quiet=quiet,
        timeout=milliseconds(tune.timeout) / 1000 if tune.timeout else math.inf, on_better=write,
    )  # fmt: skip
    write(best)
    return {
        "objective": tune.objective,
        "value": best.value,
        "params": best.params,
        "facts": best.facts,
        "trials": best.trials,
        "errors": best.errors,
        "seconds": time.monotonic() - started,
        "out": str(out),
        "study": str(study),
    }


def told(body: dict[str, Any]) -> str:
    """For people: the best, and why trials failed."""
    value, seconds = body["value"], body["seconds"]
    found = f"{body['objective']} {value:.4g}: the best of {_counts(body['trials'])}"
    lines = [f"{found}, in {seconds:.0f} s -> {body['out']}"]
    lines += [f"  {path}: {json.dumps(chosen)}" for path, chosen in body["params"].items()]
    lines += [f"  failed: {reason}" for reason in body["errors"]]
    return "\n".join(lines)


def _head(best: Best, objective: str, place: Path, now: datetime) -> str:
    searched = ", ".join(f"{path} {json.dumps(value)}" for path, value in best.params.items())
    when = now.isoformat(timespec="seconds")
    return (
        f"# Found by stream-trainer tune, {when}: the best of {_counts(best.trials)}.\n"
        f"# {objective} {best.value:.6g} on the validation part of {place}; "
        f"{BETTER[objective]} is better.\n"
        f"# Searched: {searched}.\n"
        "# What is not here is as by default.\n"
    )


def _counts(trials: dict[str, int]) -> str:
    """How many came to an end, and how; those that were cut off have been tried again."""
    ended = {state: count for state, count in trials.items() if count and state != "cut_off"}
    some = ", ".join(f"{count} {state}" for state, count in ended.items())
    total = sum(ended.values())
    return f"{total} {'trial' if total == 1 else 'trials'} ({some})"


def _about(settings: TrainerConfig, data: TrainingSet) -> dict[str, str]:
    """What the trials of one study must have in common, by the name that a refusal gives it."""
    from trainer.reading.rows import pieces  # noqa: PLC0415
    from trainer.tuning.space import to_yaml  # noqa: PLC0415

    replace = msgspec.structs.replace
    anywhere = replace(settings, data=replace(settings.data, path=None, memory=1), tune=Tune())
    digest = hashlib.sha256(json.dumps(data.features).encode())
    for one in data.series:
        digest.update(one.name.encode() + b"\0")
        for rows in (one.timestamp, one.values, one.breaks):
            for piece in pieces(rows):
                digest.update(piece.tobytes())
    tune = replace(
        settings.tune, trials=Tune().trials, timeout=Tune().timeout, pruner=Tune().pruner
    )
    return {
        "recipe": to_yaml(anywhere),
        "tune section": msgspec.json.encode(tune).decode(),
        "data set": digest.hexdigest(),
    }
