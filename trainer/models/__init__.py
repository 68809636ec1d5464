"""Architectures by name. A new one is a file beside this one and a line in MODELS.

A model maps normalised windows [B, 60, F] to its estimate of them [B, 60, F] and must be one that
TorchScript can compile (see base.py). Its options are a Section, so that unknown ones are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stream_detector.bundle import WINDOW
from stream_detector.config import ConfigError, Section
from trainer.models import (
    conv_autoencoder,
    dense_autoencoder,
    dense_ensemble,
    feature_autoencoder,
    lstm_attention,
    lstm_autoencoder,
    lstm_events,
    lstm_forecaster,
    pca,
    transformer_autoencoder,
    variational_autoencoder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainer.models.base import WindowModel


class Architecture(NamedTuple):
    build: Callable[[int, int, Any], WindowModel]  # features, window, options
    options: type[Section]


MODELS = {
    "lstm_autoencoder": Architecture(lstm_autoencoder.LstmAutoencoder, lstm_autoencoder.Options),
    "lstm_forecaster": Architecture(lstm_forecaster.LstmForecaster, lstm_forecaster.Options),
    "lstm_events": Architecture(lstm_events.LstmEvents, lstm_events.Options),
    "lstm_attention": Architecture(lstm_attention.LstmAttention, lstm_attention.Options),
    "dense_autoencoder": Architecture(
        dense_autoencoder.DenseAutoencoder, dense_autoencoder.Options
    ),
    "dense_ensemble": Architecture(dense_ensemble.DenseEnsemble, dense_ensemble.Options),
    "feature_autoencoder": Architecture(
        feature_autoencoder.FeatureAutoencoder, feature_autoencoder.Options
    ),
    "conv_autoencoder": Architecture(conv_autoencoder.ConvAutoencoder, conv_autoencoder.Options),
    "variational_autoencoder": Architecture(
        variational_autoencoder.VariationalAutoencoder, variational_autoencoder.Options
    ),
    "transformer_autoencoder": Architecture(
        transformer_autoencoder.TransformerAutoencoder, transformer_autoencoder.Options
    ),
    "pca": Architecture(pca.Pca, pca.Options),
}


def checked(name: str, options: Mapping[str, Any]) -> Section:
    """The options of an architecture. Raises ConfigError for an unknown name or option."""
    if name not in MODELS:
        raise ConfigError(f"model.name: {name!r} is unknown; there are {', '.join(MODELS)}")
    try:
        return msgspec.convert(dict(options), type=MODELS[name].options)
    except msgspec.ValidationError as error:
        raise ConfigError(f"model.options: {error}") from error


def build(name: str, features: int, options: Mapping[str, Any]) -> WindowModel:
    """A new model with fresh weights. Raises ConfigError for an unknown name or option."""
    chosen = checked(name, options)
    return MODELS[name].build(features, WINDOW, chosen)
