"""Laws of simulated traces: what a seed fixes, where faults lie, and that labels are right."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.recipes import trace_simulation as simulation
from trainer.recipes.trace_simulation import Machine, Records, simulate

CLEAN, FAULTY = 150, 900
seeds = st.integers(0, 2**31)


def equal(one: Records, other: Records) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(Records)
    )


@given(seed=seeds, threads=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_a_seed_fixes_a_threads_records_whatever_threads_there_are_beside_it(
    seed: int, threads: int
) -> None:
    first, *_ = simulate(seed, 1, CLEAN, FAULTY)
    others = simulate(seed, threads, CLEAN, FAULTY)
    assert equal(first, others[0])
    assert not any(np.array_equal(first.variable, one.variable) for one in others[1:])
    assert len({one.thread for one in others}) == threads


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_faults_lie_apart_in_the_part_that_may_be_faulty_and_kinds_come_equally_often(
    seed: int,
) -> None:
    (one,) = simulate(seed, 1, CLEAN, FAULTY)
    total = CLEAN + FAULTY
    assert len(one.time) == len(one.variable) == len(one.gap) == total
    assert (np.diff(one.time) > 0).all()
    lengths = [fault.last - fault.first + 1 for fault in one.faults]
    assert all(simulation.LENGTH[0] <= length <= simulation.LENGTH[1] for length in lengths)
    ends = [CLEAN - 1, *(fault.last for fault in one.faults)]
    begins = [*(fault.first for fault in one.faults), total]
    quiet = [begin - end - 1 for end, begin in zip(ends, begins, strict=True)]
    assert min(quiet) >= simulation.QUIET[0]
    counts = Counter(fault.kind for fault in one.faults)
    assert max(counts.values()) - min(counts[kind] for kind in simulation.KINDS) <= 1
    assert all(fault.form in simulation.FORMS[fault.kind] for fault in one.faults)


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_a_machine_can_do_all_that_comes_before_the_first_fault_and_no_fault_of_order(
    seed: int,
) -> None:
    (one,) = simulate(seed, 1, CLEAN, FAULTY)
    machine = Machine.drawn(np.random.default_rng((seed, 0)))
    fault = one.faults[0]
    variables = one.variable.tolist()
    assert machine.possible(0, variables[: fault.first])
    before_and_fault = variables[: fault.last + 1]
    assert machine.possible(0, before_and_fault) == (fault.form in simulation.TIMES)


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_a_machine_goes_round_its_loop_with_branches_and_shares_variables_among_states(
    seed: int,
) -> None:
    machine = Machine.drawn(np.random.default_rng(seed))
    np.testing.assert_allclose(machine.odds.sum(axis=1), 1.0)
    reached = np.linalg.matrix_power(machine.odds + np.eye(len(machine.odds)), len(machine.odds))
    assert (reached > 0).all()
    assert len(np.unique(machine.variable)) == simulation.USED < len(machine.variable)
    several = (machine.odds > 0).sum(axis=1) > 1
    assert several.sum() >= sum(len(stage) > 1 for stage in simulation.STAGES)


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_states_are_as_far_apart_in_time_as_a_thread_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    machine = Machine.drawn(rng)
    walk = machine.walk(0, 3000, rng)
    assert all(machine.odds[a.state, b.state] > 0 for a, b in pairwise(walk))
    mean = np.mean([one.gap for one in walk])
    assert 0.8 * simulation.MEAN_MS < mean < 1.3 * simulation.MEAN_MS
