"""What tokens cost: `cost.json`. Prices are in the currency of the assumptions, per million tokens or per request."""

from __future__ import annotations

from typing import Literal

from quantbench.records.base import Record
from quantbench.records.cell import InCell
from quantbench.records.comparison import Code
from quantbench.records.natural import Natural
from quantbench.records.suite import Estimate


class Price(Record, frozen=True, kw_only=True):
    """The config's `cost`: an hourly price of the machine, its source and the day it was read.

    per_hour: of models with a price of their own, what all their GPUs cost per hour. gpus: how many serve each model.
    peak_requests_per_s: the load that the replicas are counted for.
    """

    hourly_price: float | None = None
    currency: str = "USD"
    source: str | None = None
    date: str | None = None
    utilisation: float | None = None
    energy_price_kwh: float | None = None
    peak_requests_per_s: float | None = None
    per_hour: dict[str, float] = {}
    gpus: dict[str, int] = {}

    @property
    def known(self) -> bool:
        """Whether any price is given."""
        return self.hourly_price is not None or bool(self.per_hour)

    def of(self, model: str) -> float | None:
        """What the server of a model costs per hour."""
        return self.per_hour.get(model, self.hourly_price)

    def hours(self, baseline: str, variant: str) -> float:
        """What an hour of the baseline costs in hours of the variant; without a price, at one price for each GPU."""
        a, b = self.of(baseline), self.of(variant)
        return self.gpus.get(baseline, 1) / self.gpus.get(variant, 1) if not a or not b else a / b


class Assumptions(Price, frozen=True, kw_only=True):
    """What the costs rest on."""

    attribution: str = ""


class CostRow(InCell, frozen=True, kw_only=True):
    """What one model's tokens cost in one cell; None with a reason code (INVALID, NO_THROUGHPUT, NO_PRICE).

    tokens_per_request: of an answer that ends by itself, or else of the workload's requests. replicas: how many servers
    carry `peak_requests_per_s` of these, each as loaded as in this cell.
    """

    model: str
    throughput_tok_s: float | None
    tokens_per_hour: float | None
    cost_per_1m_tokens: float | None
    cost_per_1m_total_tokens: float | None
    cost_per_request: float | None
    j_per_token: float | None
    energy_cost_per_1m_tokens: float | None
    tokens_per_request: float | None = None
    replicas: int | None = None
    reasons: tuple[str, ...] = ()


class Saving(InCell, frozen=True, kw_only=True):
    """The share of the bill that a variant saves, in percent with its 95 % CI.

    code: of the throughput behind it, in all or per GPU; where prices make it another ratio than both, by its own
    interval, without a correction for many comparisons (reason OWN_INTERVAL). likely: as of a comparison.
    """

    variant: str
    baseline: str
    saving_pct: float | None
    ci_low_pct: float | None
    ci_high_pct: float | None
    code: Code
    primary: bool
    likely: Literal["gain", "loss"] | None = None
    reasons: tuple[str, ...] = ()


class SensitivityRow(InCell, frozen=True, kw_only=True):
    """The cost at another utilisation or price."""

    model: str
    utilisation: float
    price_factor: float
    hourly_price: float
    cost_per_1m_tokens: float | None


class CorrectCost(InCell, frozen=True, kw_only=True):
    """What a correct answer costs: price of a token × tokens of an answer / share of correct answers.

    baseline_cost, variant_cost: at this cell's price of an output token, with the 95 % interval of the items alone
    (the price is taken as measured). ratio: variant / baseline, with the interval of items and speed together; no
    price is needed where all cost the same. retry_ratio, retry_cost: where the baseline is asked again what the variant
    got wrong, which needs failures that are noticed; against the baseline alone.
    """

    variant: str
    baseline: str
    baseline_cost: Estimate | None = None
    variant_cost: Estimate | None = None
    ratio: Estimate | None = None
    retry_cost: Estimate | None = None
    retry_ratio: Estimate | None = None
    reasons: tuple[str, ...] = ()


class Cost(Record, frozen=True, kw_only=True):
    """`cost.json`. natural: of each variant whose answers were compared; correct: the same in each compared cell."""

    assumptions: Assumptions
    rows: tuple[CostRow, ...]
    savings: tuple[Saving, ...]
    sensitivity: tuple[SensitivityRow, ...]
    natural: tuple[Natural, ...] = ()
    correct: tuple[CorrectCost, ...] = ()
