"""Whether a server fits: the arithmetic behind it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from quantbench.serving import memory


@given(st.floats(0, 1e6), st.floats(1, 1e6), st.floats(0.1, 1))
def test_shortages_state_their_arithmetic(free, total, share):
    assert memory.gpu_fit(free, total, share).fits == (free >= share * total)
    assert memory.host_fit(free, total).fits == (free >= total + memory.HOST_RESERVE_MIB)
    assert f"{free:.0f} MiB" in memory.gpu_fit(free, total, share).arithmetic
