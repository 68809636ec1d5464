"""trainer.yaml -> frozen structs. Unknown keys are refused; each field tells meaning and unit.

The descriptions here are the documentation: config/trainer.yaml repeats them and a test compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, field, structs

from stream_detector.bundle import Transform
from stream_detector.config import Count, Duration, Positive, Section, Text, milliseconds
from stream_detector.core.transforms import MOST_FILL, Transforms, unfit
from trainer.config.data import Data
from trainer.config.refresh import Refresh
from trainer.config.threshold import ThresholdChoice  # noqa: TC001  # msgspec reads the annotations
from trainer.config.tune import Tune

if TYPE_CHECKING:
    from collections.abc import Sequence

Share = Annotated[float, Meta(gt=0, lt=1)]
Local = bool | Literal["median"]
WHOLE = 2 / 3
"""Of all of a series, what a window may span at most: the rest are the others to learn from."""
CLIP = 100.0
"""Cuts normalised values, so that one absurd value overflows nothing."""


class Split(Section, frozen=True, kw_only=True):
    """The rest, by default at the end of each series, is the held-out part for calibration."""

    train: Annotated[Share, Meta(description="Share of each series to fit, from its start.")] = 0.7
    validation: Annotated[
        Share, Meta(description="Share that comes next; decides when to stop.")
    ] = 0.1
    overlap: Annotated[
        bool,
        Meta(
            description="Windows of a part may begin in the part before; their newest step is "
            "their own part's. For series too short to give each part windows of its own."
        ),
    ] = False
    order: Annotated[
        Literal["chronological", "blocks", "whole"],
        Meta(
            description="In time; or blocks of each series, drawn by seed, where no later part is "
            "like the earlier ones; or every part is all of each series, where there is too little "
            "to keep some back: what is usual is then told from the errors of what was fitted."
        ),
    ] = "chronological"
    blocks: Annotated[
        Count, Meta(description="Equal blocks that each series is cut into, with that order.")
    ] = 20
    seed: Annotated[int, Meta(ge=0, description="Draws the blocks.")] = 0

    def __post_init__(self) -> None:
        if self.train + self.validation >= 1:
            raise ValueError("`train` and `validation` together must leave a held-out part")
        if self.order == "blocks" and min(self.parts) < 1:
            raise ValueError("`blocks` must be so many that each part gets one")
        if self.order != "chronological" and self.overlap:
            raise ValueError(f"`overlap` is for parts in time; leave out `order: {self.order}`")

    @property
    def parts(self) -> tuple[int, int, int]:
        """Blocks to fit, of validation, and held out."""
        train = round(self.blocks * self.train)
        later = round(self.blocks * (self.train + self.validation))
        return train, later - train, self.blocks - later

    @property
    def least(self) -> float:
        """Share of a series that lies together in each part at least."""
        if self.order == "blocks":
            return 1 / self.blocks
        if self.order == "whole":
            return WHOLE
        if self.overlap:
            return self.train
        return min(self.train, self.validation, 1 - self.train - self.validation)


class TransformRule(Section, frozen=True, kw_only=True):
    kind: Annotated[
        Literal["trailing_mean", "difference", "log_difference", "rate", "resample"],
        Meta(description="What becomes of a value."),
    ]
    n: Annotated[Count, Meta(description="Samples of a trailing mean.")] = 1
    every: Annotated[
        Duration | None, Meta(description="Width of the buckets that `resample` makes steps of.")
    ] = None
    how: Annotated[
        Literal["mean", "last", "max", "min", "sum"],
        Meta(description="What the samples of a bucket come to."),
    ] = "mean"
    fill: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_FILL,
            description="Empty buckets in a row that repeat the last value; beyond, windows begin "
            "anew.",
        ),
    ] = 5

    def __post_init__(self) -> None:
        if (self.kind == "resample") != (self.every is not None):
            raise ValueError(
                "`every`, a duration such as 60s, belongs to `resample`, which needs it"
            )

    def declared(self) -> Transform:
        """As the bundle has it."""
        every = milliseconds(self.every) if self.every else 0
        return Transform(kind=self.kind, n=self.n, every=every, how=self.how, fill=self.fill)


class Windows(Section, frozen=True, kw_only=True):
    scales: Annotated[
        Annotated[list[Count], Meta(min_length=1)] | Literal["auto"],
        Meta(
            description="Samples that make one step, one model each; auto: 1, and one whose "
            "window spans so many periods as `span` says."
        ),
    ] = field(default_factory=lambda: [1])
    span: Annotated[
        Positive, Meta(description="Periods that a window of the automatic scale spans.")
    ] = 1.7
    aperiodic: Annotated[
        list[Count],
        Meta(
            description="Scales that `auto` takes beside 1, as far as the data is long enough, "
            "where windows do not repeat or no period needs a coarse one."
        ),
    ] = field(default_factory=list)
    transforms: Annotated[
        list[TransformRule],
        Meta(description="What is done to values before the windows, here and in the detector."),
    ] = field(default_factory=list)
    local: Annotated[
        Local,
        Meta(
            description="Take the mean of a window's older steps off it: for values whose level "
            "wanders while their movements stay alike. Outliers move their median less."
        ),
    ] = False
    clip: Annotated[
        Positive,
        Meta(
            description="Normalised values are cut at this; low, an outlier disturbs the windows "
            "that hold it less."
        ),
    ] = CLIP
    stride: Annotated[
        Count, Meta(description="Samples between the starts of two training windows.")
    ] = 1
    max_windows: Annotated[
        Count, Meta(description="Training windows per scale at most; more are drawn from.")
    ] = 200_000

    def __post_init__(self) -> None:
        if problem := unfit(self.chain):
            raise ValueError(f"`transforms`: {problem}")

    @property
    def chain(self) -> list[Transform]:
        return [rule.declared() for rule in self.transforms]

    @property
    def every(self) -> int:
        """Ms between two steps; 0 where samples are not resampled."""
        return Transforms(self.chain).every


class Fit(Section, frozen=True, kw_only=True):
    epochs: Annotated[Count, Meta(description="Passes at most.")] = 40
    windows_per_epoch: Annotated[
        Count, Meta(description="Windows in one pass at most; each pass draws anew.")
    ] = 2048
    least_steps: Annotated[
        Count,
        Meta(
            description="Steps of the optimiser in one pass at least; fewer windows are drawn "
            "several times."
        ),
    ] = 1
    patience: Annotated[
        Count, Meta(description="Stop after this many passes without a better validation error.")
    ] = 6
    batch: Annotated[Count, Meta(description="Windows in one step of the optimiser.")] = 32
    loss: Annotated[
        Literal["mse", "mae", "huber"],
        Meta(description="Error to descend on; huber and mae mind outliers in the data less."),
    ] = "mse"
    optimizer: Annotated[
        Literal["adam", "adamw", "rmsprop"], Meta(description="How it descends.")
    ] = "adam"
    learning_rate: Annotated[Positive, Meta(description="The optimiser's step size.")] = 0.006
    refit: Annotated[
        bool,
        Meta(
            description="Once it is known what scores are usual, what is solved for in closed form "
            "is fitted again, to all samples: the latest count as well."
        ),
    ] = False
    time_limit: Annotated[
        Positive | None,
        Meta(
            description="Seconds to fit one scale; null has no limit. With a limit the result "
            "depends on how fast the machine is."
        ),
    ] = None
    seed: Annotated[
        int, Meta(ge=0, description="Equal seeds give equal models on the same CPU.")
    ] = 0
    device: Annotated[
        Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")],
        Meta(description="Where to fit: auto, cpu, cuda or cuda:N."),
    ] = "auto"
    threads: Annotated[
        Count | None,
        Meta(description="CPU threads; null: one for each core, many times slower on busy ones."),
    ] = 1


class ExpertRule(Section, frozen=True, kw_only=True):
    name: Annotated[
        Text,
        Meta(
            description="reconstruction, newest, below, above, stuck, nearest_shape, nearest_form, "
            "nearest_energy, t2_movement, t2_spread, t2_level, t2_recent, innovation, "
            "autoregression, departure or roughness."
        ),
    ]
    scales: Annotated[
        Literal["all", "finest", "coarsest"], Meta(description="Of which scales' windows.")
    ] = "all"
    smoothing: Annotated[
        Count, Meta(description="Samples whose scores are taken together; 1 is none.")
    ] = 1
    of: Annotated[
        Literal["mean", "max", "median"],
        Meta(
            description="What is taken of them, causally; the median minds most of them and no "
            "single one."
        ),
    ] = "mean"
    weight: Annotated[
        Positive | None,
        Meta(description="Weight in the sum; null: such that held-out tails count alike."),
    ] = None
    when: Annotated[
        Literal["always", "repeating"],
        Meta(
            description="repeating: only where most held-out windows resemble one of the training "
            "windows; shapes that never come back say nothing."
        ),
    ] = "always"


class Calibration(Section, frozen=True, kw_only=True):
    alarm_budget: Annotated[
        Positive, Meta(description="False episodes accepted per series and day.")
    ] = 1.0
    threshold: Annotated[
        ThresholdChoice | None, Meta(description="One rule instead of the alarm budget.")
    ] = None
    max_windows: Annotated[
        Count, Meta(description="Held-out windows per scale at most, the latest of each series.")
    ] = 200_000
    smoothing: Annotated[
        Count, Meta(description="Steps of the causal mean of the reconstruction error; 1 is none.")
    ] = 1
    tail: Annotated[
        Share | None,
        Meta(
            description="An expert counts from this quantile of its held-out scores on; null: all "
            "of its score counts."
        ),
    ] = None
    shape: Annotated[
        Literal["linear", "log", "ratio"],
        Meta(
            description="How it counts: by its excess over that quantile in units of the mean "
            "excess, or, below it as well, by ln(1 + score / quantile) or as a multiple (ratio) of "
            "the mean excess, which suits series of unlike noise."
        ),
    ] = "linear"
    fusion: Annotated[
        Literal["sum", "max", "l2"], Meta(description="How experts make one score.")
    ] = "sum"


class ModelChoice(Section, frozen=True, kw_only=True):
    name: Annotated[
        Text,
        Meta(
            description="Architecture: lstm_autoencoder, lstm_forecaster, lstm_events, "
            "lstm_attention, dense_autoencoder, dense_ensemble, feature_autoencoder, "
            "conv_autoencoder, variational_autoencoder, transformer_autoencoder or pca, which "
            "needs no passes."
        ),
    ] = "lstm_autoencoder"
    options: Annotated[
        dict[str, Any], Meta(description="Options of the architecture, e.g. {hidden: 64}.")
    ] = field(default_factory=dict)


Experts = Annotated[list[ExpertRule], Meta(min_length=1)]


class Instead(Section, frozen=True, kw_only=True):
    """Sections that replace those of the same name, each as a whole; null leaves that one."""

    split: Split | None = None
    windows: Windows | None = None
    model: ModelChoice | None = None
    fit: Fit | None = None
    experts: Experts | None = None
    calibration: Calibration | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The sections that are there, by name."""
        sections = {name: getattr(self, name) for name in Instead.__struct_fields__}
        return {name: section for name, section in sections.items() if section is not None}

    def __post_init__(self) -> None:
        if not self.given:
            raise ValueError(f"needs one of {', '.join(Instead.__struct_fields__)}")


class Short(Instead, frozen=True, kw_only=True):
    below: Annotated[Count, Meta(description="Samples of all series together.")] = 1000


class TrainerConfig(Section, frozen=True, kw_only=True):
    data: Annotated[Data, Meta(description="What to learn from.")] = Data()
    scaling: Annotated[
        Literal["minmax", "standard", "robust"],
        Meta(description="How values are normalised, fitted on the training part of each series."),
    ] = "standard"
    split: Annotated[Split, Meta(description="Shares of each series.")] = Split()
    windows: Annotated[Windows, Meta(description="What the model sees at once.")] = Windows()
    model: Annotated[ModelChoice, Meta(description="What is fitted.")] = ModelChoice()
    fit: Annotated[Fit, Meta(description="How it is fitted.")] = Fit()
    experts: Annotated[
        Experts | None,
        Meta(
            description="Scores that make the score; null: reconstruction, newest and stuck of all "
            "scales."
        ),
    ] = None
    calibration: Annotated[Calibration, Meta(description="From errors to levels.")] = Calibration()
    multivariate: Annotated[
        Instead | None,
        Meta(
            description="Sections that are used instead, each as a whole, where the data has more "
            "than one feature."
        ),
    ] = None
    short: Annotated[
        Short | None,
        Meta(
            description="Sections that are used instead, each as a whole, where the data has one "
            "feature and fewer samples in all series together than `below` (1000)."
        ),
    ] = None
    refresh: Annotated[
        Refresh, Meta(description="From the normal store to a new model; `fit` ignores it.")
    ] = Refresh()
    tune: Annotated[
        Tune, Meta(description="Which recipe fits this data best; only `tune` reads it.")
    ] = Tune()

    def of(self, features: Sequence[str], samples: int) -> TrainerConfig:
        """As it is for data with these features and so many samples: without `multivariate` and

        `short`, the sections of one of which have been put in place if there is reason to.
        """
        given = self._instead(features, samples)[1]
        return structs.replace(self, **given, multivariate=None, short=None)

    def choice(self, features: Sequence[str], samples: int) -> list[str]:
        """For people, which sections `of` replaces; empty where it replaces none."""
        reason, given = self._instead(features, samples)
        return [reason.format(", ".join(given))] if given else []

    def _instead(self, features: Sequence[str], samples: int) -> tuple[str, dict[str, Any]]:
        """Why, for people, with room for what: sections by name."""
        count = len(features)
        if self.multivariate and count > 1:
            return f"{count} features: {{}} from `multivariate`", self.multivariate.given
        if self.short and count == 1 and samples < self.short.below:
            return f"{samples} samples: {{}} from `short`", self.short.given
        return "", {}
