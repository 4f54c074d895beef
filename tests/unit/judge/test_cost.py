"""The spec's formulas, their assumptions, and what happens without a price."""

from __future__ import annotations

from datetime import date

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from quantbench.judge.cost import cost_per_1m, cost_report, price_age_days, replicas, saving, tokens_per_hour
from quantbench.records.cost import Price
from quantbench.records.metric import PER_GPU

PRICE = Price(hourly_price=0.28, source="a price list", date="2026-11-01", utilisation=1.0, energy_price_kwh=0.15)
FIGURES = {
    "throughput_tok_s": 1500.0, "tokens_in": 1000, "tokens_out": 2000, "request_rate_s": 10.0, "j_per_token": 0.05,
}  # fmt: skip


def capacity(valid=True, **figures):
    return runs.capacity(values=FIGURES | figures, valid=valid)


comparison = runs.comparison


def test_the_specs_formulas():
    told = cost_report([capacity()], [], PRICE).rows[0]
    assert told.tokens_per_hour == 1500 * 3600
    assert told.cost_per_1m_tokens == pytest.approx(0.28 / (1500 * 3600) * 1e6)
    assert told.cost_per_1m_tokens == pytest.approx(0.0519, abs=0.0001)
    assert told.cost_per_1m_total_tokens == pytest.approx(told.cost_per_1m_tokens / 1.5)
    assert told.cost_per_request == pytest.approx(0.28 / 36_000)
    assert told.energy_cost_per_1m_tokens == pytest.approx(0.05 * 1e6 / 3.6e6 * 0.15)
    assert told.reasons == ()


def test_the_assumptions_travel_along():
    assumptions = cost_report([], [], PRICE).assumptions
    assert {key: getattr(assumptions, key) for key in PRICE.as_dict()} == PRICE.as_dict()
    assert "must not be added" in assumptions.attribution


@pytest.mark.parametrize(("row", "reason", "hourly"), [
    ({}, "NO_PRICE", 5_400_000),
    ({"valid": False}, "INVALID", None),
    ({"throughput_tok_s": None}, "NO_THROUGHPUT", None),
])  # fmt: skip
def test_what_has_no_price_or_was_not_measured_well_costs_nothing_that_can_be_told(row, reason, hourly):
    price = replace(PRICE, hourly_price=None) if reason == "NO_PRICE" else PRICE
    found = cost_report([capacity(**row)], [comparison(ratio=1.25)], price)
    told = found.rows[0]
    assert (told.cost_per_1m_tokens, told.cost_per_request, told.reasons) == (None, None, (reason,))
    assert (told.tokens_per_hour, found.sensitivity) == (hourly, ())
    assert found.savings[0].saving_pct == pytest.approx(20), "no price is needed"


def test_savings_carry_the_ci_of_the_throughput_ratio_and_a_refused_comparison_saves_nothing():
    refused = comparison(ratio=None, ci_low=None, ci_high=None, code="invalid")
    rows = [comparison(ratio=1.25, ci_low=1.2, ci_high=1.3), comparison(metric="p50_ttft_ms"), refused]
    saved, none = cost_report([], rows, PRICE).savings
    assert (saved.saving_pct, saved.ci_low_pct, saved.ci_high_pct) == pytest.approx(
        tuple(100 * (1 - 1 / x) for x in (1.25, 1.2, 1.3))
    )
    assert (saved.code, none.saving_pct, none.ci_low_pct, none.code) == ("better", None, None, "invalid")


@given(st.floats(0.01, 100), st.floats(0.1, 10))
def test_changing_the_price_changes_the_costs_in_proportion_and_no_saving(price, factor):
    before, after = (
        cost_report([capacity()], [comparison()], replace(PRICE, hourly_price=hourly))
        for hourly in (price, price * factor)
    )
    for name in ("cost_per_1m_tokens", "cost_per_1m_total_tokens", "cost_per_request"):
        assert getattr(after.rows[0], name) == pytest.approx(factor * getattr(before.rows[0], name))
    for a, b in zip(before.sensitivity, after.sensitivity, strict=True):
        assert b.cost_per_1m_tokens == pytest.approx(factor * a.cost_per_1m_tokens)
    assert after.savings == before.savings


def test_sensitivity_to_utilisation_and_price():
    found = cost_report([capacity()], [], PRICE).sensitivity
    base = cost_per_1m(0.28, 1500)
    by_use = {e.utilisation: e.cost_per_1m_tokens for e in found if e.price_factor == 1}
    assert by_use == {u: pytest.approx(base / u) for u in (0.1, 0.3, 0.5, 0.7, 1.0)}
    by_price = {e.price_factor: e.cost_per_1m_tokens for e in found if e.price_factor != 1}
    assert by_price == {0.75: pytest.approx(0.75 * base), 1.25: pytest.approx(1.25 * base)}


@given(st.floats(0.01, 100), st.floats(1, 1e5), st.floats(0.05, 1), st.floats(0.5, 3))
def test_the_saving_is_the_difference_of_the_two_bills(price, throughput, utilisation, ratio):
    before, after = (cost_per_1m(price, t, utilisation) for t in (throughput, throughput * ratio))
    assert 1 - after / before == pytest.approx(saving(ratio))
    assert tokens_per_hour(throughput, utilisation) * before / 1e6 == pytest.approx(price)


def test_the_age_of_a_price_and_nothing_that_is_produced():
    assert cost_per_1m(1.0, 0.0) is None
    assert price_age_days("2026-11-01", date(2026, 11, 21)) == 20
    assert price_age_days(None, date(2026, 11, 21)) is None
    with pytest.raises(ValueError, match="isoformat"):
        price_age_days("last week", date(2026, 11, 21))


TWO = replace(PRICE, per_hour={"bf16": 4.0, "awq": 2.0}, gpus={"bf16": 2, "awq": 1})


def half(price, **per_gpu):
    """A variant with 0.8 of the throughput on half of the GPUs."""
    rows = [comparison(ratio=0.8, ci_low=0.79, ci_high=0.81, code="worse"),
            comparison(metric=PER_GPU, **{"ratio": 1.6, "ci_low": 1.58, "ci_high": 1.62} | per_gpu)]  # fmt: skip
    return cost_report([capacity(), runs.capacity("awq", values=FIGURES)], rows, price)


def test_each_model_costs_its_own_price_for_all_its_gpus():
    found = half(TWO)
    base, own = found.rows
    assert base.cost_per_1m_tokens == pytest.approx(4.0 / (1500 * 3600) * 1e6)
    assert own.cost_per_1m_tokens == pytest.approx(base.cost_per_1m_tokens / 2)
    [saved] = found.savings
    assert saved.saving_pct == pytest.approx(100 * (1 - 1 / 1.6))
    assert (saved.ci_low_pct, saved.code, saved.reasons) == (pytest.approx(100 * (1 - 1 / 1.58)), "better", ())
    assert {row.hourly_price for row in found.sensitivity if row.price_factor == 1} == {4.0, 2.0}


def test_without_a_price_each_gpu_is_supposed_to_cost_the_same():
    [saved] = half(replace(TWO, per_hour={}, hourly_price=None)).savings
    assert (saved.saving_pct, saved.code) == (pytest.approx(37.5), "better")
    [open_] = half(TWO, code="undecided", likely="gain").savings
    assert (open_.code, open_.likely) == ("undecided", "gain")


@pytest.mark.parametrize(
    ("hourly", "code", "saved"), [(3.0, "better", 6.25), (3.3, "worse", -3.125), (3.19, "undecided", 0.3125)]
)
def test_prices_that_make_another_ratio_judge_by_its_own_interval_and_say_so(hourly, code, saved):
    [found] = half(replace(TWO, per_hour={"bf16": 4.0, "awq": hourly})).savings
    assert (found.code, found.reasons) == (code, ("OWN_INTERVAL",))
    assert found.saving_pct == pytest.approx(saved)


def test_a_refused_comparison_saves_nothing_whatever_the_prices():
    refused = comparison(ratio=None, ci_low=None, ci_high=None, code="invalid")
    [found] = cost_report([], [refused], replace(TWO, per_hour={"bf16": 4.0, "awq": 3.0})).savings
    assert (found.saving_pct, found.code) == (None, "invalid")


@pytest.mark.parametrize(("peak", "tokens", "servers"), [(20, 75.0, 1), (20.1, 75.0, 2), (0.01, 75.0, 1), (60, 80, 4)])
def test_replicas_are_whole_servers(peak, tokens, servers):
    assert replicas(peak, 1500.0, tokens) == servers


def test_the_replicas_of_a_peak_are_of_natural_answers_or_else_of_the_workloads_requests():
    price = replace(PRICE, peak_requests_per_s=25.0, hourly_price=None)
    [own] = cost_report([capacity()], [], price).rows
    assert (own.tokens_per_request, own.replicas) == (150.0, 3), "1500 tokens/s and 10 requests/s, as measured"
    [natural] = cost_report([capacity()], [], price, {"bf16": 60.0, "awq": 99.0}).rows
    assert (natural.tokens_per_request, natural.replicas) == (60.0, 1)
    [invalid] = cost_report([capacity(valid=False)], [], price).rows
    assert (invalid.tokens_per_request, invalid.replicas) == (None, None)
    [asked_for_none] = cost_report([capacity()], [], PRICE).rows
    assert asked_for_none.replicas is None
    [unknown] = cost_report([capacity(request_rate_s=None)], [], price).rows
    assert (unknown.tokens_per_request, unknown.replicas) == (None, None)
