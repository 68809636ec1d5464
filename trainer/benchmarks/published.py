"""What others reached, as published or measured with their published outputs; for reading beside.

None of it was made by this program, and most of it on other files of the same suite.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    name: str
    metric: str
    value: str
    note: str


_UCR = "all 250 files"
_NAB = "its published scores on the 24 files of artificial*, realAdExchange and realTraffic"
_TSB = "best of forty detectors in TSB-AD-M, on other files; a rough comparison only"

PUBLISHED: dict[str, list[Published]] = {
    "ucr": [
        Published("best published", "accuracy", ".708", _UCR),
        Published("matrix profile", "accuracy", ".512", _UCR),
        Published("convolutional autoencoder", "accuracy", ".352", _UCR),
    ],
    "nab": [
        Published("CAD OSE", "standard", "79.8", _NAB),
        Published("ARTime", "standard", "79.1", _NAB),
        Published("Numenta HTM", "standard", "77.4", _NAB),
        Published("Random Cut Forest", "standard", "68.8", _NAB),
        Published("KNN-CAD", "standard", "56.6", _NAB),
    ],
    "skab": [
        Published("best of SKAB's leaderboard", "episode_f1", ".78 at far .136", "not causal"),
        Published("LSTM autoencoder", "episode_f1", ".74", "of the same leaderboard"),
    ],
    "smd": [Published("TSB-AD-M", "vus_pr", ".31 to .43", _TSB)],
    "smap_msl": [Published("TSB-AD-M", "vus_pr", ".31 to .43", _TSB)],
    "kpi": [],
    "attribution": [],
}
