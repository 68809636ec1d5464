"""The short form of `python -m tests.chaos.malformed`, and whether it sees what it looks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.records import Reason
from tests.chaos.malformed import LETTERS, Trial
from tests.chaos.payloads import KINDS, T0, payloads

if TYPE_CHECKING:
    from collections import Counter

    import pytest

    from stream_detector.records import Message

FEW = 2000


def test_malformed_payloads_become_letters_and_their_neighbours_do_not_notice() -> None:
    trial = Trial(20_000, seed=0)
    report = trial.run()
    assert trial.examples == []
    kinds = report["kinds"]
    assert set(kinds) == {"good", "mixed", *(kind.__name__ for kind in KINDS)}
    assert sum(each["records"] for each in kinds.values()) == report["records"]
    assert report["records"] - kinds["good"]["records"] == 20_000
    assert kinds["good"]["letters"] == 0 < kinds["mixed"]["letters"]
    assert report["neighbours"]["events"] > 0
    assert report["neighbours"]["samples"] == kinds["good"]["accepted"] + kinds["mixed"]["accepted"]
    assert set(report["outcomes"]) >= {"accepted", "future"}
    assert set(Reason) - set(report["letters"]) <= {Reason.NO_MODEL, Reason.OVERSIZE}


def test_equal_seeds_give_equal_payloads() -> None:
    assert list(payloads(FEW, 3)) == list(payloads(FEW, 3)) != list(payloads(FEW, 4))


def failures(trial: Trial) -> Counter[str]:
    trial.run()
    return trial.failures


def test_a_record_of_which_nothing_is_left_is_found() -> None:
    trial = Trial(FEW, 0)
    log = trial.whole.log

    def forgetful(message: Message) -> None:
        if message.topic != LETTERS:
            log.sent.append(message)

    log.send = forgetful  # type: ignore[method-assign]
    found = failures(trial)
    assert found["a record is neither sample nor letter"] > 0
    assert found["letters were not counted as they came"] == 1


def test_a_letter_that_is_not_its_record_is_found() -> None:
    trial = Trial(FEW, 0)
    log = trial.whole.log

    def careless(message: Message) -> None:
        log.sent.append(message._replace(value=b"x") if message.topic == LETTERS else message)

    log.send = careless  # type: ignore[method-assign]
    assert failures(trial)["a dead letter is not its record with a reason"] > 0


def test_a_neighbour_that_lost_a_sample_or_a_bit_is_found() -> None:
    trial = Trial(FEW, 0)
    earlier = b'{"series":"good/1","timestamp":%d,"value":0}' % (T0 - 1)
    trial.alone.log.append(b"g", earlier, T0)
    assert failures(trial)["what is said of the neighbours' samples differs"] > 0


def test_state_of_a_neighbour_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(FEW, 0)
    run = trial.whole.run

    def harmful() -> None:
        run()
        slab = trial.whole.slab()
        slab.ring[slab.index["good/7"], 0, 3, 0] += 1

    monkeypatch.setattr(trial.whole, "run", harmful)
    assert failures(trial)["`ring` of the neighbours differs"] == 1
