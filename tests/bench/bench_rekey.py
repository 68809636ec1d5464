"""What a copy under other keys costs, in CPU a record: order, decode, send, acknowledge; in memory.

python -m tests.bench.bench_rekey
"""

from __future__ import annotations

import json
import time

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.config import Fields
from stream_detector.formats.json import JsonDecoder
from stream_detector.rekeying import Copying, Rekeyer
from tests.pipeline.loop_case import MINUTE, T0, StillClock, sample

SERIES, STEPS, PARTITIONS = 1_000, 200, 8


def main() -> None:
    one = [(n, T0 + step * MINUTE) for step in range(STEPS) for n in range(SERIES)]
    wholes = [(None, sample(f"plant-3/pump-{n}", at, float(n)), at) for n, at in one]
    arrays = [
        (None, b"[" + b",".join(value for _, value, _ in wholes[first : first + 20]) + b"]", at)
        for first, (_, _, at) in list(enumerate(wholes))[::20]
    ]
    figures = {}
    for name, entries in (("one_sample", wholes), ("array_of_20_series", arrays)):
        broker = MemoryBroker(PARTITIONS)
        broker.append_many("old", entries)
        source = broker.source(["old"], "g", start="earliest", finite=True)
        decoder = JsonDecoder(
            Fields(), max_record_bytes=10**6, max_samples=100, max_series_length=100
        )
        worker = Rekeyer(source, broker.sink(), decoder, Copying("new", "letters"), StillClock())
        start = time.process_time()
        worker.run(lambda: False, lambda *_: None)
        seconds = time.process_time() - start
        copies = broker.messages("new")
        assert len(copies) == worker.copied.messages == SERIES * STEPS
        assert len({message.value for message in copies}) == SERIES * STEPS
        figures[f"{name}_us_per_message"] = round(1e6 * seconds / len(copies), 2)
    print(json.dumps(figures))  # it is what the benchmark says


if __name__ == "__main__":
    main()
