"""Levels -> episodes: when one opens, repeats itself and closes.

One row at a time, in plain Python: only rows with an open episode or something to tell come here.
Nothing but the series' own samples and its partition's clock decides.
"""

from stream_detector.core.episodes.samples import Samples, Transitions, Who
from stream_detector.core.episodes.tracker import Tracker

__all__ = ["Samples", "Tracker", "Transitions", "Who"]
