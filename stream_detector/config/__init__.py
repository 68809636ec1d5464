"""detector.yaml -> frozen structs. Unknown keys are refused; each field tells meaning and unit.

The descriptions here are the documentation: config/detector.yaml repeats them and a test compares.
"""

from stream_detector.config.detector import (
    DetectorConfig,
    Http,
    Limits,
    ModelRoute,
    Store,
)
from stream_detector.config.kinds import (
    ConfigError,
    Count,
    Duration,
    Positive,
    Section,
    Share,
    Text,
    milliseconds,
)
from stream_detector.config.reading import load_yaml, parse_yaml
from stream_detector.config.rules import Episodes, MinDeviation, ThresholdRule, Time
from stream_detector.config.state import Restore, Snapshots
from stream_detector.config.streams import Fields, Input, Kafka, Output, Rekey

__all__ = [
    "ConfigError",
    "Count",
    "DetectorConfig",
    "Duration",
    "Episodes",
    "Fields",
    "Http",
    "Input",
    "Kafka",
    "Limits",
    "MinDeviation",
    "ModelRoute",
    "Output",
    "Positive",
    "Rekey",
    "Restore",
    "Section",
    "Share",
    "Snapshots",
    "Store",
    "Text",
    "ThresholdRule",
    "Time",
    "load_yaml",
    "milliseconds",
    "parse_yaml",
]
