"""The blocks of one tuple become the row of its CSV.

Percentiles pool the requests of the valid blocks; their intervals come from the scatter between these blocks, as
requests of one block share its luck. `n`, `failures` and the adjusted percentiles (a failure counts as +inf) are over
all blocks: one failed request makes its block invalid, so over valid blocks there would be nothing to adjust.

Throughput is all their tokens over all their seconds, which is the token-weighted harmonic mean of the blocks': cost is
linear in seconds per token, so this is the mean that a bill follows. The scatter between blocks is `throughput_cv`. If
no block is valid, all are pooled and the row says valid = false. A row is valid only if every block is: leaving out
the blocks that failed and calling the rest sound would be survivorship bias.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any, Final

from quantbench.client.metrics import figure, measured, percentile
from quantbench.errors import QuantbenchError
from quantbench.judge.guards import OTHER
from quantbench.judge.siblings import far
from quantbench.observe import bound
from quantbench.observe.bound import Bound
from quantbench.records.base import Number
from quantbench.records.block import BlockContext, Calibration, Percentile
from quantbench.records.codes import code, parse
from quantbench.records.metric import METRICS, Metric, Style, focus, quantiles
from quantbench.records.pool import Measured, Pool, Quantile
from quantbench.records.request import RequestRecord
from quantbench.records.server import Ready
from quantbench.stats import MIN_PAIRS, PERCENTILE_NEEDS, RatioCI, ratio_from_logs, spread

ENERGY_GUARD: Final = "energy_mismatch"
"""Where it warns, a block's energy is not to be trusted."""


@dataclass(frozen=True)
class Tuple:
    """What a row is made of: the blocks of one cell of one arm, and the client's calibration at its concurrency.

    others: blocks of another configuration; the row says that they are there, and nothing of them is in it. gpus: how
    many serve the arm. ready: its server, None for one that has no record.
    """

    gpu_name: str
    blocks: Sequence[tuple[Sequence[RequestRecord], BlockContext]]
    calibration: Calibration | None
    others: Sequence[BlockContext] = ()
    gpus: int = 1
    ready: Ready | None = None

    @cached_property
    def contexts(self) -> list[BlockContext]:
        """Contexts of all blocks."""
        return [context for _, context in self.blocks]

    @cached_property
    def used(self) -> list[BlockContext]:
        """Contexts of the valid blocks; of all if none is."""
        return [context for context in self.contexts if context.valid] or self.contexts

    @cached_property
    def pool(self) -> Pool:
        """The blocks as metrics see them."""
        return Pool([_measured(records, context) for records, context in self.blocks], self.gpus)

    @cached_property
    def percentiles(self) -> dict[str, Percentile]:
        """Pooled percentiles by metric, with the limits that they have from the scatter between blocks."""
        return {metric.name: _pooled(self.pool, metric, of) for metric, of in quantiles()}

    @cached_property
    def bound(self) -> Bound:
        """What bounds the used blocks."""
        return bound.of_cell(self.used, self.ready)

    def of_client(self, fact: str, worst: Callable[[list[Any]], Any]) -> Any:
        """What the client knows of itself in the worst of the used blocks."""
        values = [value for context in self.used if (value := getattr(context.client, fact)) is not None]
        return worst(values) if values else None

    def of_host(self, fact: str) -> float | None:
        """The mean of a fact of the client's host over the used blocks; None unless each has it."""
        values = [getattr(context.host, fact) for context in self.used]
        return round(fmean(values), 4) if None not in values else None

    def of_server(self, counter: str) -> Number | None:
        """A server's counter over the used blocks; None unless each has it."""
        values = [getattr(context.server.delta, counter) for context in self.used]
        return sum(values) if None not in values else None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the tuple CSV: what it means, and what a tuple has in it."""

    name: str
    unit: str
    meaning: str
    of: Callable[[Tuple], Any]


def tuple_row(
    gpu_name: str,
    blocks: Sequence[tuple[Sequence[RequestRecord], BlockContext]],
    calibration: Calibration | None = None,
    gpus: int = 1,
    ready: Ready | None = None,
) -> dict[str, Any]:
    """The one row of a tuple CSV: {column: value}, in order.

    blocks: (requests, judged context) of one cell and arm, at least one. calibration: the one at its concurrency.
    gpus: how many serve the arm; ready: its server's record. Raises QuantbenchError if all of them are of another
    configuration.
    """
    ours = [(records, context) for records, context in blocks if OTHER not in context.reasons]
    others = [context for _, context in blocks if OTHER in context.reasons]
    if not ours:
        raise QuantbenchError(
            f"{others[0].arm} {others[0].cell.key}: all blocks are of another configuration",
            remedy="run snakemake again: it sets them aside and measures them anew",
        )
    row = Tuple(gpu_name, ours, calibration, others, gpus, ready)
    made = {column.name: column.of(row) for column in columns(row.contexts[0].style)}
    return made | {"blocks_invalid": made["blocks_invalid"] + len(others)}


def columns(style: Style) -> list[Column]:
    """Columns of a tuple CSV in order: what the specification names first; batch has latencies."""
    own = [metric for metric in METRICS.values() if style in metric.styles]
    first = [METRICS[name] for name in focus("interactive")]
    tails = [m for m in own if isinstance(m.how, Quantile) and (m.how.adjusted or m.how.q > 95)]
    rest = [metric for metric in own if metric not in (*first, *tails)]
    return [
        *_IDENTITY,
        *(_column(metric) for metric in (*first, *rest)),
        *(limit for metric in METRICS.values() if metric.limits for limit in _limits(metric)),
        *map(_column, tails),
        *_CLIENT,
        *_SERVER,
        *_HOST,
        *_VALIDITY,
    ]


def _pooled(pool: Pool, metric: Metric, of: Quantile) -> Percentile:
    own = percentile(pool.requests(everyone=of.adjusted), of)
    if not metric.limits:
        return own
    limits = _interval(pool, of, own.value)
    return Percentile(own.value, limits.low, limits.high, own.n, own.reason or limits.reason)


def _interval(pool: Pool, of: Quantile, pooled: float | None) -> RatioCI:
    """Sectioning: the t interval of the valid blocks' own percentiles around the pooled one, in ms."""
    valid = [block.requests for block in pool.everyone if block.valid]
    none = RatioCI(None, None, None, len(valid), None, None)
    if len(valid) < MIN_PAIRS:
        return replace(none, reason=code("ci_needs_blocks", n=MIN_PAIRS))
    own = [percentile(requests, of) for requests in valid]
    sections = [p.value for p in own if p.value is not None]
    if pooled is None or len(sections) < len(valid):
        others = [p.reason for p in own if p.reason and parse(p.reason).name != "percentile_needs"]
        too_short = code("percentile_ci_needs", q=of.q, n=PERCENTILE_NEEDS[of.q])
        return replace(none, reason=next(iter(others), too_short))
    if min(pooled, *sections) <= 0:
        return replace(none, reason=code("not_positive"))
    centre = math.log(pooled)
    sd, df = spread([math.log(x) for x in sections], None, centre)
    return ratio_from_logs(centre, sd, len(sections), df=df)


def _measured(records: Sequence[RequestRecord], context: BlockContext) -> Measured:
    energy_j = None if context.warned(ENERGY_GUARD) else context.telemetry.energy_j
    return measured(records, context.concurrency, energy_j=energy_j, valid=context.valid)


def _column(metric: Metric) -> Column:
    if isinstance(metric.how, Quantile):
        return Column(metric.name, metric.unit, metric.formula, lambda row: row.percentiles[metric.name].value)
    return Column(metric.name, metric.unit, metric.formula, lambda row: figure(metric, row.pool))


def _limits(metric: Metric) -> list[Column]:
    meaning = "95 % limits of these percentiles, from the scatter between valid blocks"
    return [
        Column(f"{metric.name}_lo", metric.unit, meaning, lambda row: row.percentiles[metric.name].low),
        Column(f"{metric.name}_hi", metric.unit, meaning, lambda row: row.percentiles[metric.name].high),
    ]


def _reasons(row: Tuple) -> Iterator[str]:
    """Guards that refused blocks, and why figures are empty."""
    if row.others:
        yield OTHER
    for context in row.contexts:
        yield from context.reasons
    for metric, of in quantiles():
        reason = row.percentiles[metric.name].reason
        if reason and (metric.limits or of.adjusted):
            yield reason
    if any(block.window is None for block in row.pool.used):
        yield code("steady_too_short")
    if any(context.warned(ENERGY_GUARD) for context in row.used):
        yield ENERGY_GUARD
    for one in far(row.contexts):
        yield code("far_from_siblings", n=one.block)
    if row.bound.reason:
        yield row.bound.reason


def _failures(row: Tuple) -> str:
    """Reason codes of failed requests, the most frequent first."""
    failed = Counter(r.reason or "unknown" for records, _ in row.blocks for r in records if not r.ok)
    return ";".join(f"{reason}:{count}" for reason, count in failed.most_common())


def _named(name: str, unit: str, meaning: str) -> Column:
    return Column(name, unit, meaning, lambda row: getattr(row.contexts[0], name))


def _calibrated(name: str, fact: str, unit: str, meaning: str) -> Column:
    return Column(name, unit, meaning, lambda row: getattr(row.calibration, fact, None))


def _client(fact: str, unit: str, meaning: str, worst: Callable[[list[Any]], Any] = max) -> Column:
    return Column(f"client_{fact}", unit, meaning, lambda row: row.of_client(fact, worst))


def _server(counter: str, unit: str, meaning: str) -> Column:
    return Column(f"server_{counter}", unit, meaning, lambda row: row.of_server(counter))


def _bound(name: str, meaning: str) -> Column:
    return Column(name, "share", meaning, lambda row: getattr(row.bound, name))


def _host(fact: str, unit: str, meaning: str) -> Column:
    return Column(fact, unit, meaning, lambda row: row.of_host(fact))


_ERROR: Final = "the client's median error (client - server) against the server of known timing"
_GROWTH: Final = "growth of the server's own counter in the used blocks; empty unless all have it (so each `server_…`)"
_IDENTITY: Final = (
    Column("gpu_name", "text", "the device, by its name in the config", lambda row: row.gpu_name),
    _named("model", "text", "the model, by its name in the config; `__aa`: the baseline measured a second time"),
    _named("workload", "text", "the workload, by its name in the config"),
    _named("concurrency", "requests", "slots that always have a request in flight"),
    _named("max_tokens", "tokens", "length of every answer"),
)
_CLIENT: Final = (
    _calibrated("client_ttft_error_ms", "ttft_error_p50_ms", "ms", _ERROR),
    _calibrated("client_e2e_error_ms", "e2e_error_p50_ms", "ms", _ERROR),
    _calibrated(
        "client_limit_tok_s", "limit_tok_s", "tok/s",
        "rate at which receiving would fill 80 % of a core, from the same calibration",
    ),
    _client("cpu_share", "share of a core", "CPU time of the client / duration; the highest of the used blocks"),
    _client(
        "loop_lag_p99_ms", "ms",
        "how late the client's event loop ran what was due, 99th percentile; the highest of the used blocks",
    ),
    _client("coalesced_share", "share", "chunks that shared a read with another; the highest of the used blocks"),
    _client(
        "concurrency_held", "share",
        "mean requests in flight / `concurrency`, over the steady window (the whole block if none); the lowest of the "
        "used blocks", min,
    ),
    Column(
        "bottleneck", "text", "what limited most of the used blocks: `engine`, `front_end`, `client` or `unknown`",
        lambda row: Counter(context.bottleneck.part for context in row.used).most_common(1)[0][0],
    ),
    Column(
        "bound", "text",
        "what bounds the cell: `memory` (bandwidth), `compute`, `kernels` (neither, and the GPU is busy), `host` "
        "(neither, and the GPU waits), `front_end` or `client`; empty with its reason", lambda row: row.bound.bound,
    ),
    _bound("bandwidth_share", "time in which the memory could give a step's weights and KV cache / its measured time"),
    _bound("compute_share", "time that a step's arithmetic takes at the peak of its precision / its measured time"),
)  # fmt: skip
_SERVER: Final = (
    _server("prefix_cache_queries", "tokens", _GROWTH),
    _server("prefix_cache_hits", "tokens", _GROWTH),
    _server("preemptions", "events", "requests that the server threw out of the KV cache and computed again"),
    _server("generation_tokens", "tokens", "tokens as the server counts them"),
    _server("prompt_tokens", "tokens", "tokens as the server counts them"),
    _server("queue_time_sum_s", "s", "time that requests waited in the server, summed over requests"),
    _server("requests_succeeded", "requests", "requests that the server ended well"),
    _server("corrupted_requests", "requests", "requests with NaN in their logits"),
    _server("spec_decode_drafts", "drafts", "drafts of speculative decoding; 0 is wanted unless it is declared"),
    _server("spec_decode_draft_tokens", "tokens", "tokens that these drafts proposed"),
    _server("spec_decode_accepted_tokens", "tokens", "of them those that the model accepted"),
)
_HOST: Final = (
    _host(
        "steal_share", "share",
        "CPU time that another virtual machine got / CPU time wanted on the client's host; mean of the used blocks, "
        "empty unless all have it (so the next two)",
    ),
    _host("foreign_cpu_cores", "cores", "what others than the lane's servers and the client used of the host's CPUs"),
    _host("cpu_freq_mhz", "MHz", "mean clock of the host's CPUs; in a virtual machine often a constant"),
)  # fmt: skip
_VALIDITY: Final = (
    Column(
        "valid", "true, false", "whether every block is valid: the row of what is left after failures is not sound",
        lambda row: not row.others and all(context.valid for context in row.contexts),
    ),
    Column(
        "reasons", "codes",
        "guards that refused blocks, why fields are empty, valid blocks far from the others; joined with `;`",
        lambda row: ";".join(dict.fromkeys(_reasons(row))),
    ),
    Column("failure_reasons", "code:count", "why requests failed, over all blocks, the most frequent first", _failures),
)  # fmt: skip
