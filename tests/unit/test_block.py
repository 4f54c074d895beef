"""The progress line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from quantbench.block import progress_line


def test_the_pace_of_this_run_gives_the_estimate() -> None:
    assert progress_line([], 60) == "0 of 60 blocks"
    assert progress_line([100.0], 60) == "1 of 60 blocks"
    assert progress_line([float(n) for n in range(0, 300, 10)], 60) == "30 of 60 blocks, about 5 min 00 s left"
    assert progress_line([0.0, 10.0], 4) == "2 of 4 blocks, about 20.0 s left"
    assert progress_line([0.0, 60.0], 240) == "2 of 240 blocks, about 3 h 58 min left"
    assert progress_line([0.0, 10.0], 2) == "2 of 2 blocks"
    assert progress_line([0.0], 0) == "1 of 1 block", "never more than there are"


@given(st.lists(st.floats(0, 1e6), max_size=5).map(sorted), st.integers(0, 500))
def test_never_a_negative_or_endless_estimate(ended: list[float], planned: int) -> None:
    text = progress_line(ended, planned)
    assert "-" not in text
    assert "nan" not in text
