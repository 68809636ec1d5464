"""The suites by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.benchmarks.attribution import Attribution
from trainer.benchmarks.kpi import Kpi
from trainer.benchmarks.nab import Nab
from trainer.benchmarks.skab import Skab
from trainer.benchmarks.smap_msl import SmapMsl
from trainer.benchmarks.smd import Smd
from trainer.benchmarks.ucr import Ucr

if TYPE_CHECKING:
    from trainer.benchmarks.cases import Suite

SUITES: dict[str, Suite] = {
    one.name: one for one in (Ucr(), Nab(), Skab(), Smd(), SmapMsl(), Kpi(), Attribution())
}
