"""Drift: did the machine change while the run lasted? One definition, for the verdict and for the guard."""

from __future__ import annotations

from collections.abc import Sequence

from quantbench.records.block import BlockContext
from quantbench.records.cell import Cell
from quantbench.records.comparison import DriftRow
from quantbench.records.metric import SPEED
from quantbench.stats import drift

DRIFT_PCT = 2.0
"""A trend of the baseline over the session that is larger than this matters."""
DRIFT_ALPHA = 0.05


def drift_of(
    cell: Cell,
    blocks: Sequence[BlockContext],
    metric: str = SPEED,
    *,
    limit_pct: float = DRIFT_PCT,
    alpha: float = DRIFT_ALPHA,
) -> DriftRow | None:
    """Trend of one arm's valid blocks over the session (Theil-Sen; Kendall's test); None without any value.

    flagged: larger than limit_pct with p below alpha; None where there are too few blocks for a test.
    """
    points = [(b.started_unix, float(b.metrics[metric] or 0)) for b in blocks if b.valid and b.metrics.get(metric)]
    if not points:
        return None
    trend = drift([t for t, _ in points], [value for _, value in points])
    flagged = None
    if trend.percent is not None and trend.p_value is not None:
        flagged = abs(trend.percent) > limit_pct and trend.p_value < alpha
    return DriftRow(
        **cell.columns,
        metric=metric,
        percent=trend.percent,
        ci_low_pct=trend.low,
        ci_high_pct=trend.high,
        p_value=trend.p_value,
        n=trend.n,
        flagged=flagged,
        reason=trend.reason,
    )
