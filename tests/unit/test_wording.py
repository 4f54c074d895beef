from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from quantbench import wording as w

anything = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans())
finite = st.floats(min_value=1e-6, max_value=1e12)


@given(anything)
def test_no_formatter_ever_prints_a_broken_number(value: object) -> None:
    for text in (w.number(value), w.integer(value), w.percent(value), w.change(value), w.seconds(value)):
        assert not any(word in text.lower() for word in ("nan", "inf", "none", "true", "false"))


@given(finite)
def test_a_number_keeps_three_significant_digits(x: float) -> None:
    shown = float(w.number(x).replace(",", ""))
    assert math.isclose(shown, x, rel_tol=0.0051)


@given(st.floats(min_value=0.01, max_value=50))
def test_change_has_the_sign_of_the_change(ratio: float) -> None:
    text = w.change(ratio)
    if ratio > 1.001:
        assert text.startswith("+")
    elif ratio < 0.999:
        assert text.startswith("−")


def test_examples() -> None:
    assert [w.number(x) for x in (1234.5, 12.345, 0.01234, 9.996, 0, None)] == [
        "1,234",
        "12.3",
        "0.0123",
        "10.0",
        "0",
        "–",
    ]
    assert [w.change(x) for x in (1.123, 0.95, 1.0, 0.999999, None)] == ["+12.3 %", "−5.0 %", "0.0 %", "0.0 %", "–"]
    assert [w.seconds(x) for x in (0.35, 12.34, 250, 7500)] == ["350 ms", "12.3 s", "4 min 10 s", "2 h 05 min"]
    assert w.plural(1, "block") == "1 block"
    assert w.plural(2, "query", "queries") == "2 queries"
    assert w.listing(["a", "b", "c"]) == "a, b and c"
    assert w.sentence("p95 TTFT fell") == "p95 TTFT fell."
    assert w.sentence("tokens/sec rose.") == "Tokens/sec rose."


def test_rounding_makes_no_nothing_and_no_all_of_what_is_neither() -> None:
    assert [w.change(x) for x in (1.0004, 0.9997, 0.0001, 2.0)] == ["+0.04 %", "−0.03 %", "−99.99 %", "+100 %"]
    assert [w.percent(x) for x in (0.9996, 1.0, -1.0, -1e-9, 1 - 1e-12)] == [
        "99.96 %",
        "100 %",
        "−100 %",
        "0.0 %",
        "100 %",
    ]
    assert [w.percent(x, 0) for x in (0.996, 0.004, 0.5, 0.0)] == ["99.6 %", "0.4 %", "50 %", "0 %"]
    assert [w.ratio(x) for x in (1.0, 1.2345, 1e-4, 9958.6, None)] == ["1.000", "1.234", "0.000100", "9,959", "–"]
    assert w.ratio_ci(1.2, 1.1, 1.3) == "1.200 [1.100, 1.300]"
    assert w.ratio_ci(1.2, None, None) == "1.200"
    assert [w.seconds(x) for x in (0.9997, 0.0004, 0.0)] == ["1.00 s", "0.400 ms", "0 ms"]


@given(st.floats(min_value=0, max_value=1))
def test_a_bound_is_never_rounded_to_where_it_does_not_hold(bound: float) -> None:
    assert float(w.at_most(bound).removesuffix(" %")) >= bound * 100 - 1e-6


def test_no_p_value_is_zero() -> None:
    assert [w.p_value(p) for p in (0.0, 0.0009, 0.0123)] == ["< 0.001", "< 0.001", "= 0.012"]
