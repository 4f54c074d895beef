"""Prices and throughputs → cost per million tokens, savings with their CI, sensitivity. Pure.

All costs attribute the whole hour to the tokens they count: the cost of output tokens and that of all
tokens are two views of the same bill, never to be added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

Json = dict[str, Any]

UTILISATIONS = (0.1, 0.3, 0.5, 0.7, 1.0)
PRICE_FACTORS = (0.75, 1.25)
JOULE_PER_KWH = 3.6e6
CELL = ("workload", "concurrency", "max_tokens")
ATTRIBUTION = "the whole hour is charged to the tokens counted; output cost and total cost must not be added"


def tokens_per_hour(throughput_tok_s: float, utilisation: float = 1.0) -> float:
    """Tokens in one hour of which the share `utilisation` is loaded: throughput × 3600 × utilisation."""
    return throughput_tok_s * 3600 * utilisation


def cost_per_1m(hourly_price: float, throughput_tok_s: float, utilisation: float = 1.0) -> float | None:
    """Price of a million tokens: hourly_price / tokens_per_hour × 1e6; None where nothing is produced."""
    hourly = tokens_per_hour(throughput_tok_s, utilisation)
    return hourly_price / hourly * 1e6 if hourly > 0 else None


def saving(ratio: float, price_ratio: float = 1.0) -> float:
    """Share of the bill saved at a throughput ratio variant/baseline: 1 - price_ratio / ratio."""
    return 1 - price_ratio / ratio


def price_age_days(price_date: str | date | None, today: date) -> int | None:
    """Days since the price was read; None without a date. Raises ValueError for one that is not YYYY-MM-DD."""
    if price_date is None:
        return None
    read_on = price_date if isinstance(price_date, date) else date.fromisoformat(price_date)
    return (today - read_on).days


def cost_report(
    capacity_rows: Sequence[Mapping[str, Any]],
    comparison_rows: Sequence[Mapping[str, Any]],
    price: Mapping[str, Any],
    relative_price: Mapping[str, float] | None = None,
) -> Json:
    """`cost.json`: {assumptions, rows, savings, sensitivity}.

    capacity_rows: tuple CSV rows of all models. comparison_rows: rows of comparison/*.csv. price: the config's `cost`
    {hourly_price, currency, source, date, utilisation, energy_price_kwh}. relative_price: {model: factor} where a model
    needs more or less of the machine than the priced one (1 otherwise).
    """
    factors = relative_price or {}
    rows = [_row(row, price, factors.get(row["model"], 1.0)) for row in capacity_rows]
    return {
        "assumptions": _assumptions(price, factors),
        "rows": rows,
        "savings": list(_savings(comparison_rows, factors)),
        "sensitivity": [
            entry
            for row, told in zip(capacity_rows, rows, strict=True)
            if told["cost_per_1m_tokens"] is not None
            for entry in _sensitivity(row, price, factors.get(row["model"], 1.0))
        ],
    }


def _assumptions(price: Mapping[str, Any], factors: Mapping[str, float]) -> Json:
    keys = ("hourly_price", "currency", "source", "date", "energy_price_kwh")
    return {
        **{key: price.get(key) for key in keys},
        "utilisation": _utilisation(price),
        "relative_price": dict(factors),
        "attribution": ATTRIBUTION,
    }


def _utilisation(price: Mapping[str, Any]) -> float:
    value = price.get("utilisation")
    return 1.0 if value is None else float(value)


def _row(row: Mapping[str, Any], price: Mapping[str, Any], factor: float) -> Json:
    throughput, usage = row.get("throughput_tok_s"), _utilisation(price)
    reasons = []
    if row.get("valid") in (False, "false"):
        reasons.append("INVALID")
    if not throughput:
        reasons.append("NO_THROUGHPUT")
    usable = not reasons
    hourly = None if price.get("hourly_price") is None else float(price["hourly_price"]) * factor
    reasons += ["NO_PRICE"] if hourly is None else []
    told: Json = {"model": row["model"], **{key: row[key] for key in CELL}, "throughput_tok_s": throughput}
    told["tokens_per_hour"] = tokens_per_hour(throughput, usage) if usable and throughput else None
    costs = _costs(row, hourly, usage) if usable and hourly is not None else dict.fromkeys(COSTS)
    joules, kwh = row.get("j_per_token"), price.get("energy_price_kwh")
    energy = joules * 1e6 / JOULE_PER_KWH * kwh if usable and joules is not None and kwh is not None else None
    return {**told, **costs, "j_per_token": joules, "energy_cost_per_1m_tokens": energy, "reasons": reasons}


COSTS = ("cost_per_1m_tokens", "cost_per_1m_total_tokens", "cost_per_request")


def _costs(row: Mapping[str, Any], hourly: float, usage: float) -> Json:
    throughput, requests = float(row["throughput_tok_s"]), row.get("request_rate_s")
    sent, received = row.get("tokens_in"), row.get("tokens_out")
    total = throughput * (1 + sent / received) if sent is not None and received else None
    return {
        "cost_per_1m_tokens": cost_per_1m(hourly, throughput, usage),
        "cost_per_1m_total_tokens": None if total is None else cost_per_1m(hourly, total, usage),
        "cost_per_request": hourly / (3600 * requests * usage) if requests else None,
    }


def _savings(rows: Sequence[Mapping[str, Any]], factors: Mapping[str, float]) -> Iterable[Json]:
    """Per variant and cell, from the throughput ratio and its CI. The price itself cancels: none is needed."""
    for row in rows:
        if row["metric"] != "throughput_tok_s":
            continue
        prices = factors.get(row["variant"], 1.0) / factors.get(row["baseline"], 1.0)
        ratio, low, high = (row[key] for key in ("ratio", "ci_low", "ci_high"))
        told = {
            "saving_pct": None if not ratio else 100 * saving(ratio, prices),
            "ci_low_pct": None if not low else 100 * saving(low, prices),
            "ci_high_pct": None if not high else 100 * saving(high, prices),
        }
        yield {
            "variant": row["variant"],
            "baseline": row["baseline"],
            **{key: row[key] for key in CELL},
            **told,
            "code": row["code"] if prices == 1 else _code(row["code"], told),
            "break_even_ratio": prices,
            "primary": row["primary"],
            "reasons": row["reasons"],
        }


def _code(code: str, told: Mapping[str, float | None]) -> str:
    """The code of a saving where the two arms cost a different hour: the saving's own CI decides."""
    low, high = told["ci_low_pct"], told["ci_high_pct"]
    if low is None or high is None:
        return code
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _sensitivity(row: Mapping[str, Any], price: Mapping[str, Any], factor: float) -> Iterable[Json]:
    """Cost at other utilisations (price as stated), then at other prices (utilisation as stated)."""
    stated, usage = float(price["hourly_price"]) * factor, _utilisation(price)
    points = [(u, 1.0) for u in UTILISATIONS] + [(usage, f) for f in PRICE_FACTORS]
    for utilisation, price_factor in points:
        yield {
            "model": row["model"],
            **{key: row[key] for key in CELL},
            "utilisation": utilisation,
            "price_factor": price_factor,
            "hourly_price": stated * price_factor,
            "cost_per_1m_tokens": cost_per_1m(stated * price_factor, float(row["throughput_tok_s"]), utilisation),
        }
