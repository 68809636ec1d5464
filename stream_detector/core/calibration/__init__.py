"""How unusual a score is for its own series, and when that is an alarm: learnt online."""

from stream_detector.core.calibration.heights import Heights
from stream_detector.core.calibration.judge import Judged, Limits, Rules, State, judge
from stream_detector.core.calibration.lesson import FIRST, LASTING, MATURE, RENEWED, Terms, prior
from stream_detector.core.calibration.memory import MEMORY, settle
from stream_detector.core.calibration.tail import Tail

__all__ = [
    "FIRST", "LASTING", "MATURE", "MEMORY", "RENEWED",
    "Heights", "Judged", "Limits", "Rules", "State", "Tail", "Terms",
    "judge", "prior", "settle",
]  # fmt: skip
