"""The metrics of a block or of a pool of blocks, computed as `records.metric` defines them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from quantbench import stats
from quantbench.client.concurrency import steady_window
from quantbench.client.records import BlockResult
from quantbench.client.silences import silences
from quantbench.records.base import Number
from quantbench.records.block import BlockContext, LaneFacts, Percentile, ServerFacts, Telemetry
from quantbench.records.cell import Cell
from quantbench.records.codes import code
from quantbench.records.metric import METRICS, Metric, quantiles
from quantbench.records.pool import Measured, Pool, Quantile
from quantbench.records.request import RequestRecord, spans
from quantbench.visible import visible
from quantbench.wording import clipped

MOST_WORDS = 200
"""Characters of what is kept of a failure."""
DEFINED_SHARE = 0.9
"""Of the ok requests: a time that fewer of them have (TPOT, where most replies come in one read) has no percentile."""


def measured(
    records: Sequence[RequestRecord], concurrency: int, *, energy_j: float | None = None, valid: bool = True
) -> Measured:
    """A block with what its metrics need; `concurrency` is the asked one, which the steady window is cut by."""
    return Measured(records, steady_window(spans(records), concurrency), energy_j, valid)


def percentile(records: Sequence[RequestRecord], of: Quantile, *, limits: bool = False) -> Percentile:
    """A percentile over requests, in ms, with its order-statistic CI if `limits` are wanted and its values independent.

    Its `reason` says why a value, or a wanted limit, is None.
    """
    time, answered = of.time, [r for r in records if r.ok]
    each = [own for r in answered if (own := time.values(r))]
    values = [value for own in each for value in own]
    reason = time.unfit(answered)
    if reason is None and len(each) < DEFINED_SHARE * len(answered):
        reason = code("time_of_too_few", time=time.name.upper())
    if reason:
        return Percentile(None, None, None, len(values), reason)
    if of.adjusted:
        values += [math.inf] * (len(records) - len(answered))
    result = stats.percentile(values, of.q, 0.95 if limits and time.independent else None)
    if result.reason == code("falls_on_failure"):
        return replace(result, reason=code("failures_at", q=of.q))
    return result


def figure(metric: Metric, pool: Pool) -> Number | None:
    """The metric of a pool of blocks; None where the data cannot support it."""
    if isinstance(metric.how, Quantile):
        return percentile(pool.requests(everyone=metric.how.adjusted), metric.how).value
    return metric.how.over(pool)


def block_metrics(
    records: Sequence[RequestRecord], concurrency: int, *, energy_j: float | None = None
) -> dict[str, Number | None]:
    """All metrics of one block; what the data cannot support is None."""
    pool = Pool([measured(records, concurrency, energy_j=energy_j)])
    return {name: figure(metric, pool) for name, metric in METRICS.items() if metric.block}


def block_context(
    result: BlockResult,
    cell: Cell,
    *,
    gpu: str,
    model: str,
    style: Literal["interactive", "batch"],
    block: int,
    min_seconds: float,
    telemetry: Telemetry | None = None,
    **facts: Any,
) -> BlockContext:
    """All that is known of a measured block; not yet judged. `facts` are further fields of the record."""
    records, telemetry = result.records, telemetry or Telemetry()
    return BlockContext(
        gpu=gpu,
        model=model,
        **cell.columns,
        style=style,
        block=block,
        min_seconds=min_seconds,
        started_at=result.started.isoformat(timespec="milliseconds"),
        started_unix=result.started.timestamp(),
        duration_s=result.duration_s,
        client=result.client,
        silences=silences(records, result.stalls),
        metrics=block_metrics(records, cell.concurrency, energy_j=telemetry.energy_j),
        percentiles=percentile_table(records),
        failure_reasons=dict(Counter(str(record.reason) for record in records if not record.ok)),
        failure_words=_first_words(records),
        telemetry=telemetry,
        **{"server": ServerFacts(), "lane": LaneFacts(), **facts},
    )


def _first_words(records: Sequence[RequestRecord]) -> dict[str, str]:
    """What was said of the first failure of each reason, clipped."""
    said: dict[str, str] = {}
    for record in records:
        if record.reason and record.detail:
            said.setdefault(record.reason, clipped(" ".join(visible(record.detail).split()), MOST_WORDS))
    return said


def percentile_table(records: Sequence[RequestRecord]) -> dict[str, Percentile]:
    """The percentiles of one block that have limits, with the 95 % order-statistic CI over its requests, in ms.

    n: how many values there are. Times that are not independent within a request have no limits here.
    """
    return {metric.name: percentile(records, of, limits=True) for metric, of in quantiles() if metric.limits}
