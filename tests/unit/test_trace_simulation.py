"""What each form of fault does, how hard the traces are, and the file they make."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from trainer.data import load
from trainer.recipes import trace
from trainer.recipes.trace_simulation import (
    FACTOR,
    FORMS,
    QUIET,
    Fault,
    Machine,
    Records,
    csv_lines,
    delayed,
    hurried,
    missed,
    repeated,
    simulate,
    swapped,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.recipes.trace_simulation import Form, Step

STATE, COUNT = 3, 24


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine.drawn(np.random.default_rng(11))


def made(form: Form, machine: Machine) -> list[Step]:
    return form(machine, STATE, COUNT, np.random.default_rng(2))


def normal(machine: Machine) -> list[Step]:
    """What the same random numbers give without a fault."""
    return machine.walk(STATE, COUNT, np.random.default_rng(2))


def slowness(steps: list[Step], machine: Machine) -> NDArray[np.float64]:
    """[n] times over the usual times of their states."""
    return np.array([one.gap / machine.usual[one.state] for one in steps])


@pytest.mark.parametrize(("form", "sign"), [(delayed, 1.0), (hurried, -1.0)])
def test_a_delay_and_a_burst_change_all_times_by_one_factor_and_no_order(
    form: Form, sign: float, machine: Machine
) -> None:
    steps = made(form, machine)
    assert all(machine.odds[a.state, b.state] > 0 for a, b in pairwise(steps))
    factor = float(np.exp(sign * np.median(np.log(slowness(steps, machine)))))
    assert 0.8 * FACTOR[0] < factor < 1.2 * FACTOR[1]


def test_swapped_steps_are_neighbours_in_the_wrong_order(machine: Machine) -> None:
    steps, straight = made(swapped, machine), normal(machine)
    assert steps[:2] == [straight[1], straight[0]]
    assert sorted(steps) == sorted(straight)
    moved = [a != b for a, b in zip(steps, straight, strict=True)]
    assert sum(moved) >= COUNT // 3


def test_missed_steps_leave_the_next_ones_in_order_and_on_time(machine: Machine) -> None:
    steps = made(missed, machine)
    assert len(steps) == COUNT
    follows = [machine.odds[a.state, b.state] > 0 for a, b in pairwise(steps)]
    assert COUNT // 2 <= sum(follows) < COUNT - 3
    assert not machine.odds[STATE, steps[0].state] > 0
    assert 0.7 < np.median(slowness(steps, machine)) < 1.4


def test_a_repeated_state_keeps_its_pace(machine: Machine) -> None:
    steps = made(repeated, machine)
    assert {one.state for one in steps} == {STATE}
    assert 0.7 < np.median(slowness(steps, machine)) < 1.4


def test_every_form_makes_as_many_steps_as_asked(machine: Machine) -> None:
    for forms in FORMS.values():
        for form in forms.values():
            for count in (3, 4, 30):
                assert len(form(machine, 0, count, np.random.default_rng(count))) == count


def test_neither_unseen_pairs_of_variables_nor_times_out_of_range_find_all_faults() -> None:
    seen = {"pair": 0, "time": 0, "either": 0, "faults": 0}
    for one in simulate(5, 3, 1900, 4000):
        known = set(zip(one.variable[:1899].tolist(), one.variable[1:1900].tolist(), strict=True))
        pairs = zip(one.variable[:-1].tolist(), one.variable[1:].tolist(), strict=True)
        unseen = np.array([False, *(pair not in known for pair in pairs)])
        usual = one.gap[1:1900]
        beyond = (one.gap < usual.min()) | (one.gap > usual.max())
        for fault in one.faults:
            rows = slice(fault.first, fault.last + 1)
            seen["pair"] += bool(unseen[rows].any())
            seen["time"] += bool(beyond[rows].any())
            seen["either"] += bool((unseen | beyond)[rows].any())
            seen["faults"] += 1
    assert seen["pair"] < 0.6 * seen["faults"]
    assert seen["time"] < 0.6 * seen["faults"]
    assert 0.2 * seen["faults"] < seen["either"] < 0.85 * seen["faults"]


def test_the_file_holds_all_threads_in_time_order_and_reads_back_as_the_recipe_sees_them(
    tmp_path: Path,
) -> None:
    traces = simulate(3, 2, 40, 2 * QUIET[1])
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(csv_lines(traces)) + "\n")
    times = [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]
    assert times == sorted(times)
    data = load(path)
    assert data.features == trace.FEATURES
    for found, one in zip(data.series, traces, strict=True):
        assert found.name == one.thread
        np.testing.assert_array_equal(found.timestamp, one.time)
        np.testing.assert_allclose(found.values, trace.columns(one), rtol=1e-5)


def records(*faults: Fault) -> Records:
    """One thread of which only the places of faults matter."""
    rows = np.arange(trace.CLEAN + 1000)
    return Records("thread-0", 10 * rows, rows % 3, list(faults))


def flags(one: Records, *alarms: tuple[int, int]) -> NDArray[np.bool_]:
    flagged = np.zeros(len(one.time), np.bool_)
    for first, last in alarms:
        flagged[first : last + 1] = True
    return flagged


def test_alarms_close_together_are_one_and_those_before_the_test_do_not_count() -> None:
    begin = trace.CLEAN
    one = records(
        Fault(begin + 100, begin + 109, "order", "swap"),
        Fault(begin + 300, begin + 309, "delay", "delay"),
    )
    said = [
        (begin - 50, begin - 40),
        (begin + 104, begin + 105),
        (begin + 120, begin + 121),
        (begin + 500, begin + 501),
    ]
    found = trace.measures([one], flags(one, *said))
    assert (found["precision"], found["recall"], found["interval_f1"]) == (0.5, 0.5, 0.5)
    assert (found["recall_order"], found["recall_delay"]) == (1.0, 0.0)
    assert np.isnan(found["recall_burst"])
    assert (found["detection_delay"], found["false_alarms"]) == (4.0, 1.0)


def test_flags_of_several_threads_are_matched_thread_by_thread() -> None:
    fault = Fault(trace.CLEAN + 100, trace.CLEAN + 109, "burst", "burst")
    hit, missed_one = records(fault), records(fault)
    flagged = np.concatenate((flags(hit, (fault.first, fault.last)), flags(missed_one)))
    found = trace.measures([hit, missed_one], flagged)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert found["detection_delay"] == 0.0
