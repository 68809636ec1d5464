"""Anything at all arrives: nothing breaks, good samples count once, bad ones are letters.

FUZZ_PAYLOADS sets how many payloads, 20,000 when it is not set.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from stream_detector.records import Outcome, Reason
from tests.fakes import model
from tests.pipeline.hostile import payloads
from tests.pipeline.loop_case import TOPIC, Case, headers

if TYPE_CHECKING:
    from stream_detector.records import Verdicts

COUNT = int(os.environ.get("FUZZ_PAYLOADS", "20000"))


class Offsets:
    """ports.NormalStore that counts, for each record, its samples by what became of them."""

    def __init__(self) -> None:
        self.accepted: Counter[int] = Counter()
        self.judged: Counter[int] = Counter()

    def record(self, verdicts: Verdicts) -> None:
        offset = verdicts.batch.offset
        self.judged.update(offset.tolist())
        self.accepted.update(offset[verdicts.outcome == Outcome.ACCEPTED].tolist())

    def close(self) -> None: ...


def test_whatever_arrives_good_samples_count_once_and_bad_records_become_letters() -> None:
    store = Offsets()
    case = Case(models={"g": model()}, store=store)
    sent = list(payloads(COUNT))
    case.broker.append_many(TOPIC, [(each.key, each.value, each.time) for each in sent])
    case.run()

    assert case.telemetry.polled == COUNT
    assert case.committed == {0: COUNT}
    letters: dict[int, list[dict[str, str]]] = {}
    for letter in case.letters:
        found = headers(letter)
        offset = int(found["dlq_offset"])
        assert (letter.key, letter.value) == (sent[offset].key, sent[offset].value)
        assert found["dlq_reason"] in set(Reason)
        assert found["dlq_detail"]
        letters.setdefault(offset, []).append(found)
    for offset, each in enumerate(sent):
        if each.good:
            assert store.accepted[offset] == each.good, (offset, each)
            assert offset not in letters, (offset, each)
        else:
            assert offset in letters or store.judged[offset], (offset, each)
            assert not each.surely_bad or (offset in letters and not store.judged[offset]), each
    total = case.telemetry
    assert len(case.letters) == total.reasons.total() > COUNT / 3
    assert total.faults == 0
    print(
        f"\n{COUNT} payloads, {sum(1 for each in sent if each.good)} of them good with "
        f"{sum(each.good for each in sent)} samples; outcomes {dict(total.outcomes)}; "
        f"{len(letters)} records in {len(case.letters)} letters: {dict(total.reasons)}; "
        f"{total.windows} windows, {len(case.events)} events"
    )
