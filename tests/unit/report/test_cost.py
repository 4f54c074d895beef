from typing import Any

import pytest
from quantbench.judge.cost import cost_report
from quantbench.records.comparison import Comparison
from quantbench.records.cost import Price
from quantbench.records.run import Run
from quantbench.report import cost, pages, render
from quantbench.report.say import Speech
from runs import BATCH, CHAT, but, capacity, comparison, measurement, quality, run, verdict

PRICE = Price(hourly_price=0.28, source="a price list", date="2026-11-09", utilisation=0.5)


def priced(*rows: Comparison, price: Price = PRICE, trusted: bool = True, **parts: Any) -> Run:
    """A run whose costs come from its own rows and comparisons."""
    base = run(**parts)
    rows = rows or (comparison(CHAT), comparison(BATCH))
    found = verdict(rows, trusted=trusted)
    return but_run(base, verdict=found, cost=cost_report(base.capacity, rows, price))


def but_run(base: Run, **changes: Any) -> Run:
    return Run(**{**{name: getattr(base, name) for name in Run.__dataclass_fields__}, **changes})


def page(found: Run) -> str:
    return render.page(pages.cost_page(found))


def undecided(low: float, high: float) -> Comparison:
    return comparison(CHAT, code="undecided", ratio=1.1, ci_low=low, ci_high=high)


def test_a_saving_is_said_with_its_interval_and_the_ratio_it_comes_from() -> None:
    row = comparison(CHAT, ratio=1.25, ci_low=1.2, ci_high=1.3)
    assert "**Savings**: 20.0 % cost reduction with AWQ 4-bit (95 % CI 16.7 % to 23.1 %)." in page(priced(row))


@pytest.mark.parametrize(
    ("row", "id_"),
    [
        (comparison(CHAT), "cost.saved"),
        (comparison(CHAT, ratio=0.8, code="worse"), "cost.more"),
        (comparison(CHAT, ratio=1.0, code="equivalent"), "cost.within_margin"),
        (undecided(0.9, 1.3), "cost.undecided"),
        (undecided(1.02, 1.3), "cost.corrected"),
        (comparison(CHAT, code="no_test", ci_low=None, ci_high=None), "cost.no_test"),
        (comparison(CHAT, ratio=None, code="invalid"), "cost.no_figure"),
    ],
)
def test_only_what_is_shown_is_a_saving(row: Comparison, id_: str) -> None:
    found = priced(row)
    assert cost.saving(found, "chat", "awq").id == id_
    assert Speech.of(found)(cost.saving(found, "chat", "awq"))
    assert cost.is_shown(found, found.saving("awq", CHAT)) == (id_ == "cost.saved")
    assert ("after correction" in page(found)) == (id_ == "cost.corrected")


def test_a_run_that_is_not_trusted_shows_no_saving() -> None:
    found = priced(trusted=False)
    assert cost.saving(found, "chat", "awq").id == "cost.untrusted"
    assert [entry.id for entry in cost.break_even(found)] == ["cost.break_even_none"]
    assert cost.business_case(found)[0].id == "cost.case_untrusted"
    assert "cost reduction with" not in page(found)


def test_break_even_is_the_share_of_answers_given_again_that_uses_the_saving_up() -> None:
    found = priced(comparison(CHAT, ratio=1.25, ci_low=1.2, ci_high=1.3), quality={"awq": quality()})
    [even] = cost.break_even(found)
    saved = even.values["by"]
    assert (1 - saved) + saved == pytest.approx(1.0)  # what is saved, and as much given again
    text = page(found)
    assert "BF16 has to give 20.0 % of the answers again (16.7 % at the lower end" in text
    assert "cannot exclude that 6 % are lost" in text


def test_without_a_price_costs_are_blank_but_savings_stand() -> None:
    text = page(priced(price=Price()))
    assert "No hourly price is given" in text
    assert "16.7 % cost reduction" in text
    assert "## All cells" not in text
    assert "Utilisation: 100 %" in text


def test_changing_the_price_changes_the_costs_in_proportion() -> None:
    once, twice = (priced(price=but(PRICE, hourly_price=0.28 * factor)) for factor in (1, 2))
    for cell in (CHAT, BATCH):
        cheap, dear = (found.cost_row("bf16", cell) for found in (once, twice))
        assert cheap
        assert dear
        assert cheap.cost_per_1m_tokens
        assert dear.cost_per_1m_tokens == pytest.approx(2 * cheap.cost_per_1m_tokens)
    assert "| BF16 | 100 | 180,000 | 1.56 |" in page(once)
    assert "| BF16 | 100 | 180,000 | 3.11 |" in page(twice)


def test_a_price_and_its_use_are_told_as_they_were_given() -> None:
    text = page(priced(price=Price(hourly_price=1234.5678, utilisation=0.375, source="a quote", date="2026-11-19")))
    assert "Hourly price: 1,234.5678 USD (a quote; 2026-11-19, 1 day before the measurement)." in text
    assert "Utilisation: 37.5 % of each hour" in text
    free = page(priced(price=Price(hourly_price=0.0)))
    assert "Hourly price: 0 USD (source not stated; date not stated)." in free
    assert "| BF16 | 100 | 360,000 | 0 |" in free
    assert Speech()(cost.price(priced(price=Price(hourly_price=0.0)))).startswith("0 USD per hour")
    odd = page(priced(measurement=measurement(first_block_at=None)))
    assert "(a price list; 2026-11-09)" in odd


def test_a_cell_without_a_price_says_why_and_what_its_saving_rests_on() -> None:
    refused = capacity("awq", CHAT, valid=False, blocks=4, blocks_invalid=2, reasons=("thermal_throttling",))
    known = [capacity("bf16", CHAT), refused, capacity("bf16", BATCH)]
    text = page(priced(comparison(CHAT, n_pairs=4), comparison(BATCH, ratio=None, code="invalid"), capacity=known))
    assert "2 of 6 blocks were refused, so the cell is not valid and gets no price" in text
    assert "its saving rests on the 4 pairs of valid blocks" in text
    assert "Blank for AWQ 4-bit in batch_summarize at c=32: it was not measured." in text


def test_the_business_case_names_the_range_of_savings_and_what_quality_says() -> None:
    assert cost.business_case(priced())[0].id == "cost.case_one"
    several = priced(comparison(CHAT), comparison(BATCH, ratio=1.5))
    assert cost.business_case(several)[0].id == "cost.case_several"
    assert cost.business_case(priced(undecided(0.9, 1.3)))[0].id == "cost.case_none"
    assert "0 of 60 prompts lost, no degradation seen" in page(priced(quality={"awq": quality()}))
    assert "Quality was not compared" in page(priced())
    assert 3 <= len(cost.business_case(priced())) <= 5
    assert 2 <= len(cost.narrative(priced())) <= 3


def test_a_run_without_a_priced_cell_says_so() -> None:
    assert "No cell was measured." in page(priced(capacity=[]))
