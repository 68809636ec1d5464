"""Which feature is to blame: anomalies of one feature, put into the Server Machine Dataset.

The labels of public suites seldom say which feature an anomaly was in; an injected one is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from trainer.benchmarks.cases import Case, Judged, OperatingPoint
from trainer.benchmarks.smd import Smd
from trainer.config.threshold import ThresholdChoice
from trainer.metrics import NAN, wilson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.benchmarks.cases import Answer
    from trainer.config import Split

Kind = Literal["spike", "shift", "noise"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LENGTHS: dict[Kind, tuple[int, int]] = {"spike": (1, 3), "shift": (10, 40), "noise": (20, 20)}
"""Samples that an anomaly lasts, least and most."""
SIZES = (3.0, 6.0, 12.0)
"""Standard deviations of the feature in the training part, by which it is off."""
APART = 240
"""Samples from one anomaly's start to the next, so that no window holds two and the score calms."""
CALM = 120
"""Samples before one, and after its longest, without a labelled anomaly."""
FIRST = 3
QUANTILE = 0.99


class Injected(NamedTuple):
    first: int  # row among the tested ones
    last: int
    feature: int
    kind: Kind
    size: float


class Attribution:
    name: ClassVar[str] = "attribution"
    title: ClassVar[str] = "Attribution, on the Server Machine Dataset"
    origin: ClassVar[str] = Smd.origin
    protocol: ClassVar[str] = (
        "Trained on each machine's train part. In its test part, every "
        f"{APART} samples where nothing is labelled, one feature that varies in training is off by "
        f"{', '.join(f'{size:g}' for size in SIZES)} of its standard deviations: a spike of 1 to 3 "
        "samples, a shift of 10 to 40, or noise of 20. Features are ranked by their contribution "
        "at the highest score meanwhile. first, top3: share with the true feature first, and among "
        "the first three; *_detected: of those with an alarm meanwhile. Operating point: threshold "
        f"at the {QUANTILE:.0%} quantile of the held-out scores."
    )
    headline: ClassVar[str] = "top3"
    baselines: ClassVar[tuple[str, ...]] = ()
    operating: ClassVar[OperatingPoint] = OperatingPoint(ThresholdChoice(quantile=QUANTILE))
    split: ClassVar[Split | None] = None

    def find(self, data: Path) -> list[Path]:
        return Smd().find(data)

    def read(self, path: Path) -> Case:
        return injected(Smd().read(path), np.random.default_rng(0))

    def judge(self, case: Case | None, answer: Answer | None) -> Judged:
        """An anomaly of a file without an answer is neither detected nor ranked."""
        some: list[Injected] = [] if case is None else case.extra
        rows: list[tuple[bool, int]] = []
        for one in some:
            stretch = slice(one.first, one.last + 1)
            if answer is None or answer.contribution is None:
                rows.append((False, -1))
                continue
            worst = one.first + int(np.argmax(answer.score[stretch]))
            blame = answer.contribution[worst]
            rank = int((blame > blame[one.feature]).sum())
            rows.append(
                (bool(answer.above[stretch].any()), rank if np.isfinite(blame).all() else -1)
            )
        counts = _counts(rows)
        for kind in KINDS:
            own = [row for row, one in zip(rows, some, strict=True) if one.kind == kind]
            counts |= {f"{kind}_{name}": value for name, value in _counts(own).items()}
        return Judged(dict(counts))

    def total(self, judged: Sequence[Judged]) -> dict[str, float]:
        return {name: hits / of if of else NAN for name, (hits, of) in _shares(judged).items()}

    def intervals(self, judged: Sequence[Judged]) -> Mapping[str, tuple[float, float]]:
        """Wilson's, over the anomalies."""
        return {name: wilson(hits, of) for name, (hits, of) in _shares(judged).items()}


def injected(case: Case, rng: np.random.Generator) -> Case:
    """The file with anomalies of one feature each; `extra` lists them."""
    train, tested = case.values[: case.train], case.values[case.train :].copy()
    deviation = train.std(axis=0)
    varying = np.flatnonzero(deviation > 0)
    longest = max(most for _, most in LENGTHS.values())
    label = case.label
    found: list[Injected] = []
    for start in range(CALM, case.tested - longest - CALM, APART):
        if label[start - CALM : start + longest + CALM].any():
            continue
        kind, size = KINDS[rng.integers(len(KINDS))], SIZES[rng.integers(len(SIZES))]
        feature = int(rng.choice(varying))
        low, high = LENGTHS[kind]
        length = int(rng.integers(low, high + 1))
        off = (
            rng.standard_normal(length) if kind == "noise" else np.full(length, rng.choice((-1, 1)))
        )
        tested[start : start + length, feature] += size * deviation[feature] * off
        found.append(Injected(start, start + length - 1, feature, kind, size))
    return Case(
        case.name,
        case.features,
        case.timestamp,
        np.concatenate([case.values[: case.train], tested]),
        case.train,
        [(case.train + one.first, case.train + one.last) for one in found],
        extra=found,
    )


def _counts(rows: Sequence[tuple[bool, int]]) -> dict[str, int]:
    ranks = np.array([rank for _, rank in rows], int)
    seen = np.array([detected for detected, _ in rows], bool)
    first, top = ranks == 0, (ranks >= 0) & (ranks < FIRST)
    return {
        "anomalies": len(rows),
        "detected": int(seen.sum()),
        "first": int(first.sum()),
        "top3": int(top.sum()),
        "first_detected": int((first & seen).sum()),
        "top3_detected": int((top & seen).sum()),
    }


def _shares(judged: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """Hits and of how many, by metric."""
    found: dict[str, tuple[int, int]] = {}
    for prefix in ("", *(f"{kind}_" for kind in KINDS)):
        total = {
            name: sum(one.body.get(prefix + name, 0) for one in judged) for name in _counts([])
        }
        for name in ("first", "top3"):
            found[f"{prefix}{name}"] = total[name], total["anomalies"]
            found[f"{prefix}{name}_detected"] = total[f"{name}_detected"], total["detected"]
        found[f"{prefix}detected"] = total["detected"], total["anomalies"]
    return found
