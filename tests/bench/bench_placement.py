"""What the check of keys costs beside the whole loop, on the same records.

python -m tests.bench.bench_placement
"""

from __future__ import annotations

import json
import time

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.core.placement import Placement
from stream_detector.records import Record
from tests.pipeline.loop_case import MINUTE, T0, TOPIC, Case, sample

SERIES, STEPS, PARTITIONS = 2_000, 100, 8


def main() -> None:
    broker = MemoryBroker(PARTITIONS)
    broker.create_topic(TOPIC, PARTITIONS)
    for step in range(STEPS):
        at = T0 + step * MINUTE
        broker.append_many(
            TOPIC,
            [
                (f"plant-3/pump-{n}".encode(), sample(f"plant-3/pump-{n}", at, n + step % 7), at)
                for n in range(SERIES)
            ],
        )
    case = Case(broker=broker)
    start = time.process_time()
    case.run()
    whole = time.process_time() - start
    count = SERIES * STEPS
    assert case.telemetry.outcomes == {"accepted": count}
    assert not any(turn.odd.misplaced or turn.odd.unkeyed for turn in case.telemetry.turns)

    records = [
        Record(TOPIC, number, offset, at, key, value)
        for number, log in enumerate(broker.logs(TOPIC))
        for offset, (key, value, at) in enumerate(log)
    ]
    placement = Placement()
    start = time.process_time()
    for first in range(0, count, 5000):
        found = placement.check(records[first : first + 5000], {TOPIC: PARTITIONS})
        assert not found.misplaced
    check = time.process_time() - start
    figures = {
        "records": count,
        "loop_us_per_record": round(1e6 * whole / count, 2),
        "check_us_per_record": round(1e6 * check / count, 3),
        "share_of_loop": round(check / whole, 4),
    }
    print(json.dumps(figures))  # it is what the benchmark says


if __name__ == "__main__":
    main()
