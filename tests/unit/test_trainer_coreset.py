"""Half of what is remembered is drawn by chance, half is what is farthest from it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.experts.coreset import coreset


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(0, 20), st.integers(0, 30))
def test_each_row_that_is_not_drawn_is_the_farthest_from_those_before_it(
    seed: int, drawn: int, more: int, left: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(drawn + more + left, 3, generator=generator, dtype=torch.float64)
    rows = coreset([points], drawn + more, drawn)
    assert rows[:drawn].tolist() == list(range(drawn))
    assert len(set(rows.tolist())) == drawn + more
    for at in range(drawn, drawn + more):
        away = torch.cdist(points, points[rows[:at]]).amin(dim=1)
        assert away[rows[at]] == pytest.approx(float(away.max()), rel=1e-9)


def test_what_is_rare_is_remembered_and_what_is_common_not_forgotten() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4000, 2, generator=generator)
    points[3900:] *= 0.01
    points[3900:] += torch.tensor([40.0, 0.0])  # 2.5% of all, another state
    points[3995:] += torch.tensor([0.0, 40.0])  # five windows, yet another
    rows = coreset([points], 64, 32)
    rare = points[rows]
    assert (torch.cdist(points[3900:], rare).amin(dim=1) < 2).all()
    assert len(set(rows.tolist()) & set(range(3900))) > 32


def test_parts_of_any_size_count_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(500, 4, generator=generator) for _ in range(2))
    rows = coreset([one, other], 40, 20)
    assert torch.equal(coreset([1000 * one, other], 40, 20), rows)
    still = torch.zeros(500, 2)
    assert torch.equal(coreset([one, other, still], 40, 20), rows)
