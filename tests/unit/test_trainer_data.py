from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_detector.formats.tables import Table
from trainer.config.data import Data
from trainer.data import DataError, assemble, clean, load

NAN = float("nan")


def cleaned(values: list[float], **config: object) -> list[float]:
    times = np.arange(len(values), dtype=np.int64) * 1000
    settings = Data(**config)  # type: ignore[arg-type]  # keywords of mixed types
    values_ = clean("s", times, np.array(values)[:, None], settings).values[:, 0]
    return [float(value) for value in values_]


def test_samples_are_sorted_by_time_and_the_first_of_equal_times_is_kept() -> None:
    times = np.array([3000, 1000, 2000, 1000], dtype=np.int64)
    one = clean("s", times, np.array([[3.0], [1.0], [2.0], [9.0]]), Data())
    assert one.timestamp.tolist() == [1000, 2000, 3000]
    assert one.values[:, 0].tolist() == [1.0, 2.0, 3.0]


def test_drop_leaves_out_samples_with_a_missing_value() -> None:
    assert cleaned([1, NAN, 3, np.inf, 5], missing="drop") == [1, 3, 5]


def test_values_beyond_what_a_window_can_hold_are_missing() -> None:
    largest = float(np.finfo(np.float32).max)
    assert cleaned([1, largest, 3, -1e31, 1e30], missing="drop") == [1, 3, 1e30]
    assert cleaned([1, largest, 3], missing="interpolate") == [1, 2, 3]


def test_forward_fill_repeats_the_last_value_for_a_few_samples_only() -> None:
    values = [NAN, 1, NAN, NAN, NAN, 2, NAN]
    assert cleaned(values, missing="forward_fill", fill_limit=2) == [1, 1, 1, 2, 2]


def test_interpolation_draws_a_line_over_short_gaps_and_leaves_long_ones_out() -> None:
    values = [NAN, 1, NAN, 3, NAN, NAN, NAN, 7, NAN]
    assert cleaned(values, missing="interpolate", fill_limit=2) == [1, 2, 3, 7]


def test_interpolation_goes_by_time_not_by_position() -> None:
    times = np.array([0, 1000, 4000], dtype=np.int64)
    one = clean("s", times, np.array([[0.0], [NAN], [4.0]]), Data(missing="interpolate"))
    assert one.values[:, 0].tolist() == [0.0, 1.0, 4.0]


def test_chunks_of_several_series_come_together_in_a_common_feature_order() -> None:
    def table(names: list[str], features: tuple[str, ...], first: int) -> Table:
        count = len(names)
        values = np.arange(count * 2, dtype=np.float64).reshape(count, 2) + 10 * first
        times = np.arange(first, first + count, dtype=np.int64)
        return Table(Path("f"), first, names, times, values, features)

    data = assemble(
        [table(["b", "a", "b"], ("x", "y"), 0), table(["a"], ("y", "x"), 3)], "f", Data()
    )
    assert data.features == ["x", "y"]
    assert [one.name for one in data.series] == ["a", "b"]
    assert data.series[0].values.tolist() == [[2.0, 3.0], [31.0, 30.0]]
    assert data.series[1].values.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert data.rows == 4


def test_a_file_that_lacks_a_feature_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp,x\n1,1\n2,2\n")
    (tmp_path / "b.csv").write_text("timestamp,y\n1,1\n2,2\n")
    with pytest.raises(DataError, match=r"lacks x; .* data\.features"):
        load(tmp_path)


def test_text_among_numbers_is_an_error_that_names_file_row_and_column(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i}\n" for i in range(1500))
    (tmp_path / "a.csv").write_text("timestamp,x\n" + rows + "1500,broken\n")
    with pytest.raises(DataError, match=r"a\.csv.*1501.*x"):
        load(tmp_path)


def test_files_of_every_kind_hold_the_same_samples(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("timestamp,value\n1700000000,1.5\n1700000060,2.5\n")
    (tmp_path / "j.ndjson").write_text(
        '{"series":"j","timestamp":1700000000000,"value":1.5}\n'
        '{"series":"j","timestamp":1700000060000,"value":2.5}\n'
    )
    data = load(tmp_path)
    assert [one.name for one in data.series] == ["c", "j"]
    for one in data.series:
        assert one.timestamp.tolist() == [1_700_000_000_000, 1_700_000_060_000]
        assert one.values[:, 0].tolist() == [1.5, 2.5]
        assert one.interval == 60_000
