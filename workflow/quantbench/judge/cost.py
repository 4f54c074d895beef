"""Prices and throughputs → cost per million tokens, savings with their CI, sensitivity.

All costs attribute the whole hour to the tokens they count: the cost of output tokens and that of all
tokens are two views of the same bill, never to be added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final

from msgspec import structs

from quantbench.records.codes import code
from quantbench.records.comparison import Code, Comparison
from quantbench.records.cost import Assumptions, Cost, CostRow, Price, Saving, SensitivityRow
from quantbench.records.metric import PER_GPU, SPEED
from quantbench.records.tables import CapacityRow

UTILISATIONS: Final = (0.1, 0.3, 0.5, 0.7, 1.0)
PRICE_FACTORS: Final = (0.75, 1.25)
JOULE_PER_KWH: Final = 3.6e6
ATTRIBUTION: Final = "the whole hour is charged to the tokens counted; output cost and total cost must not be added"


def tokens_per_hour(throughput_tok_s: float, utilisation: float = 1.0) -> float:
    """Tokens in one hour of which the share `utilisation` is loaded: throughput × 3600 × utilisation."""
    return throughput_tok_s * 3600 * utilisation


def cost_per_1m(hourly_price: float, throughput_tok_s: float, utilisation: float = 1.0) -> float | None:
    """Price of a million tokens: hourly_price / tokens_per_hour × 1e6; None where nothing is produced."""
    hourly = tokens_per_hour(throughput_tok_s, utilisation)
    return hourly_price / hourly * 1e6 if hourly > 0 else None


def saving(ratio: float) -> float:
    """Share of the bill saved at a throughput ratio variant/baseline: 1 - 1 / ratio."""
    return 1 - 1 / ratio


def price_age_days(price_date: str | date | None, today: date) -> int | None:
    """Days since the price was read; None without a date. Raises ValueError for one that is not YYYY-MM-DD."""
    if price_date is None:
        return None
    read_on = price_date if isinstance(price_date, date) else date.fromisoformat(price_date)
    return (today - read_on).days


def cost_report(
    capacity: Sequence[CapacityRow],
    comparisons: Sequence[Comparison],
    price: Price,
    answer_tokens: Mapping[str, float] | None = None,
) -> Cost:
    """What tokens cost with every model in every cell, what variants save, and the same at other prices.

    answer_tokens: mean length of a model's answers that end by themselves, where it is known: a request, for replicas.
    """
    rows = tuple(_row(row, price, (answer_tokens or {}).get(row.model)) for row in capacity)
    stated = price.as_dict() | {"utilisation": _utilisation(price)}
    per_gpu = {(row.variant, row.cell): row for row in comparisons if row.metric == PER_GPU}
    return Cost(
        assumptions=Assumptions(**stated, attribution=ATTRIBUTION),
        rows=rows,
        savings=tuple(
            _saving(row, per_gpu.get((row.variant, row.cell)), price) for row in comparisons if row.metric == SPEED
        ),
        sensitivity=tuple(entry for row in rows for entry in _sensitivity(row, price)),
    )


def _utilisation(price: Price) -> float:
    return 1.0 if price.utilisation is None else price.utilisation


def replicas(peak_requests_per_s: float, throughput_tok_s: float, tokens_per_request: float) -> int:
    """Servers that carry a peak: ceil(peak / (throughput / tokens of a request)), at least one."""
    return max(1, math.ceil(peak_requests_per_s * tokens_per_request / throughput_tok_s - 1e-9))


def _row(row: CapacityRow, price: Price, answer_tokens: float | None) -> CostRow:
    throughput, usage, joules = row.number(SPEED), _utilisation(price), row.number("j_per_token")
    reasons = [] if row.valid else [code("invalid_cell")]
    if not throughput:
        reasons.append(code("no_throughput"))
    usable, kwh = not reasons, price.energy_price_kwh
    hourly = price.of(row.model)
    if hourly is None:
        reasons.append(code("no_price"))
    output = total = request = None
    requests = row.number("request_rate_s")
    length = answer_tokens or (throughput / requests if throughput and requests else None)
    peak = price.peak_requests_per_s
    if usable and throughput and hourly is not None:
        output = cost_per_1m(hourly, throughput, usage)
        total = _total_cost(row, hourly, throughput, usage)
        request = hourly / (3600 * requests * usage) if requests else None
    return CostRow(
        model=row.model,
        **row.cell.columns,
        throughput_tok_s=throughput,
        tokens_per_hour=tokens_per_hour(throughput, usage) if usable and throughput else None,
        cost_per_1m_tokens=output,
        cost_per_1m_total_tokens=total,
        cost_per_request=request,
        j_per_token=joules,
        energy_cost_per_1m_tokens=(
            joules * 1e6 / JOULE_PER_KWH * kwh if usable and joules is not None and kwh is not None else None
        ),
        tokens_per_request=length if usable else None,
        replicas=replicas(peak, throughput, length) if usable and throughput and length and peak else None,
        reasons=tuple(reasons),
    )


def _total_cost(row: CapacityRow, hourly_price: float, throughput: float, usage: float) -> float | None:
    """Per million tokens, those of the prompts counted too."""
    sent, received = row.number("tokens_in"), row.number("tokens_out")
    if sent is None or not received:
        return None
    return cost_per_1m(hourly_price, throughput * (1 + sent / received), usage)


def _saving(row: Comparison, per_gpu: Comparison | None, price: Price) -> Saving:
    """From the throughput ratio and its CI, times what an hour of the baseline costs in hours of the variant.

    Where all cost the same the price itself cancels, and none is needed.
    """
    hours = price.hours(row.baseline, row.variant)
    ratios = [x * hours if x else None for x in (row.ratio, row.ci_low, row.ci_high)]
    percents = [100 * saving(x) if x else None for x in ratios]
    basis = _basis(row, per_gpu, hours, ratios)
    return Saving(
        variant=row.variant,
        baseline=row.baseline,
        **row.cell.columns,
        saving_pct=percents[0],
        ci_low_pct=percents[1],
        ci_high_pct=percents[2],
        code=basis.code,
        primary=row.primary,
        likely=basis.likely,
        reasons=basis.reasons,
    )


def _basis(row: Comparison, per_gpu: Comparison | None, hours: float, ratios: Sequence[float | None]) -> Comparison:
    """The comparison that says how sure a saving is: one that was tested, else the saving's own interval."""
    if math.isclose(hours, 1):
        return row
    if per_gpu is not None and (row.ratio is None or math.isclose(per_gpu.ratio or 0, ratios[0] or 0, rel_tol=1e-6)):
        return per_gpu
    _, low, high = ratios
    if row.code in ("invalid", "no_test") or low is None or high is None:
        return row
    found: Code = "better" if low > 1 else "worse" if high < 1 else "undecided"
    return structs.replace(row, code=found, likely=None, reasons=(*row.reasons, code("own_interval")))


def _sensitivity(row: CostRow, price: Price) -> Iterable[SensitivityRow]:
    """Cost at other utilisations (price as stated), then at other prices (utilisation as stated)."""
    hourly = price.of(row.model)
    if row.cost_per_1m_tokens is None or row.throughput_tok_s is None or hourly is None:
        return
    for utilisation, factor in [*((u, 1.0) for u in UTILISATIONS), *((_utilisation(price), f) for f in PRICE_FACTORS)]:
        yield SensitivityRow(
            model=row.model,
            **row.cell.columns,
            utilisation=utilisation,
            price_factor=factor,
            hourly_price=hourly * factor,
            cost_per_1m_tokens=cost_per_1m(hourly * factor, row.throughput_tok_s, utilisation),
        )
