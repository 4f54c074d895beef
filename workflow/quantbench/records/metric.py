"""Every metric, once: name, unit, direction, formula and computation, where it is compared and shown, words.

Symbols, per request: sent = stamp right before the request is written to the socket; first, last = arrival of the
first and last read that brought output tokens; end = the end of the HTTP reply; tokens = completion_tokens of
the server's usage; first_tokens = tokens that had arrived by `first`. Only requests that are `ok` enter
percentiles and token sums; failures are counted, and enter the adjusted percentiles as +inf.

To add a metric: an entry of `_TABLE`, and its `Time` or `Sum` where it is of a new one. Blocks, the tuple CSV, reasons
and the tables of the documentation have it then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final, Literal

from quantbench.records.codes import code
from quantbench.records.pool import Measured, Pool, Quantile, Quotient, Sum, Time, Whole
from quantbench.records.request import RequestRecord, Window, spans

Style = Literal["interactive", "batch"]
Better = Literal["higher", "lower", "neither"]
Kind = Literal["throughput", "time", "energy", "count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a figure means, and how it is had.

    words: as prose says it. compared: whether variants are compared in it. limits: whether it has a confidence
    interval, in a block by order statistics (`percentiles`), in a tuple by the scatter of its blocks (`_lo`, `_hi`).
    ratio: the styles of workload whose table of ratios shows it. styles: those whose tuples have it. block: whether a
    block has it, or only a tuple.
    """

    name: str
    unit: str
    better: Better
    how: Sum | Quotient | Quantile | Whole
    formula: str
    words: str = ""
    kind: Kind = "count"
    compared: bool = False
    limits: bool = False
    ratio: tuple[Style, ...] = ()
    styles: tuple[Style, ...] = ("interactive", "batch")
    block: bool = True

    @property
    def higher_is_better(self) -> bool:
        """Its direction; what has none counts as better when lower."""
        return self.better == "higher"

    @property
    def q(self) -> int:
        """Which percentile it is; 0 for what is none."""
        return self.how.q if isinstance(self.how, Quantile) else 0

    @property
    def time(self) -> str:
        """Which time it is a percentile of; empty for what is none."""
        return self.how.time.name if isinstance(self.how, Quantile) else ""

    def is_better(self, ratio: float) -> bool:
        """Whether a ratio variant / baseline other than 1 is a gain."""
        return (ratio > 1) == self.higher_is_better


# --- Times of a request ----------------------------------------------------------------------------------------------


def ttft_ms(request: RequestRecord) -> float | None:
    """Time to first token in ms; None without tokens."""
    return _ms(request.sent_ns, request.first_ns)


def e2e_ms(request: RequestRecord) -> float | None:
    """Time from sending to the last token in ms; None without tokens."""
    return _ms(request.sent_ns, request.last_ns)


def tpot_ms(request: RequestRecord) -> float | None:
    """Time per output token after the first read in ms; None if all tokens came in one read."""
    later = (request.completion_tokens or 0) - request.first_chunk_tokens
    span = _ms(request.first_ns, request.last_ns)
    return span / later if span and later > 0 else None


def chunk_gap_ms(request: RequestRecord) -> float | None:
    """Mean time between token-carrying messages in ms; None below two of them, or if all came in one read."""
    span = _ms(request.first_ns, request.last_ns)
    return span / (request.chunks - 1) if span and request.chunks > 1 else None


def itl_ms(request: RequestRecord) -> list[float]:
    """Inter-token latencies in ms: the gaps between successive reads that brought tokens."""
    return [gap / 1000 for gap in request.gaps_us or ()]


MOST_NOT_ALONE: Final = 0.01
"""Of the tokens: if more of them did not come in a read of their own, gaps between reads are no inter-token latency."""


def no_single_tokens(requests: Sequence[RequestRecord]) -> str | None:
    """Why the gaps between reads are not those between tokens, as a code; None if they are.

    Where several tokens share a read, their own gaps are not seen and the one before is longer. One such read in a
    hundred moves a p95 by a percent of rank at most.
    """
    if any(request.gaps_us is None for request in requests):
        return code("time_not_kept", time="ITL")
    tokens = sum(request.completion_tokens or 0 for request in requests)
    not_alone = sum(abs((request.completion_tokens or 0) - request.reads) for request in requests)
    return code("itl_needs_single_tokens") if not_alone > MOST_NOT_ALONE * tokens else None


def _ms(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else (end - start) / 1e6


def _one(of: Callable[[RequestRecord], float | None]) -> Callable[[RequestRecord], Sequence[float]]:
    """A time that a request has once or not at all."""
    return lambda request: () if (value := of(request)) is None else (value,)


TTFT: Final = Time(
    "ttft", "TTFT",
    "first - sent; it includes the queue in the server, not the opening of the connection", _one(ttft_ms),
)  # fmt: skip
E2E: Final = Time(
    "e2e",
    "E2E",
    "last - sent, to the last token and not to the closing of the stream: TTFT + decode time",
    _one(e2e_ms),
)
TPOT: Final = Time(
    "tpot", "TPOT",
    "(last - first) / (tokens - first_tokens): dividing by tokens - 1 would be wrong when the first "
    "read brings more than one token; not defined if all came in one read",
    _one(tpot_ms),
)  # fmt: skip
CHUNK_GAP: Final = Time(
    "chunk_gap", "chunk gap",
    "(last - first) / (chunks - 1), one mean per request, as several chunks can share a read; equals TPOT only where "
    "each chunk is one token",
    _one(chunk_gap_ms),
)  # fmt: skip
ITL: Final = Time(
    "itl", "ITL",
    "the gaps between successive tokens of a stream, of all ok requests together; null where more than 1 % of the "
    "tokens did not come in a read of their own",
    itl_ms, unfit=no_single_tokens, independent=False,
)  # fmt: skip

# --- Sums of a block -------------------------------------------------------------------------------------------------


def tokens_within(request: RequestRecord, window: Window) -> float:
    """Output tokens of one request that arrived in the window.

    Those of the first read arrived at `first`; the others are spread evenly over (first, last].
    """
    first, last, tokens = request.first_ns, request.last_ns, request.completion_tokens or 0
    if first is None or last is None:
        return 0.0
    at_first = min(request.first_chunk_tokens, tokens) if last > first else tokens
    credited = float(at_first) if window.start <= first <= window.end else 0.0
    if last > first:
        overlap = min(last, window.end) - max(first, window.start)
        credited += (tokens - at_first) * max(0, overlap) / (last - first)
    return credited


def _all_known(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if None in known else sum(value or 0 for value in known)


def _duration_s(block: Measured) -> float | None:
    times = spans(block.requests)
    return (max(end for _, end in times) - min(sent for sent, _ in times)) / 1e9 if times else None


def _steady_s(block: Measured) -> float | None:
    return (block.window.end - block.window.start) / 1e9 if block.window else None


def _steady_tokens(block: Measured) -> float | None:
    return sum(tokens_within(r, block.window) for r in block.ok) if block.window else None


OK: Final = Sum(lambda block: len(block.ok))
TOKENS_OUT: Final = Sum(lambda block: sum(r.completion_tokens or 0 for r in block.ok))
DURATION: Final = Sum(_duration_s)
STEADY: Final = Sum(_steady_s)
ENERGY: Final = Sum(lambda block: block.energy_j, whole=True)
THROUGHPUT: Final = Quotient(TOKENS_OUT, DURATION)


def _throughput_cv(pool: Pool) -> float | None:
    rates = [rate for block in pool.used if (rate := THROUGHPUT.over(Pool((block,))))]
    return stdev(rates) / fmean(rates) if len(rates) > 1 else None


SPEED: Final = "throughput_tok_s"
"""The metric that decides, where no other is declared."""
PER_GPU: Final = "throughput_tok_s_per_gpu"
"""Compared where the models use several numbers of GPUs."""


def _throughput_per_gpu(pool: Pool) -> float | None:
    rate = THROUGHPUT.over(pool)
    return None if rate is None else rate / pool.gpus


# --- The table -------------------------------------------------------------------------------------------------------

_CHAT: Final[tuple[Style, ...]] = ("interactive",)
_BATCH: Final[tuple[Style, ...]] = ("batch",)
_BOTH: Final[tuple[Style, ...]] = ("interactive", "batch")


def _percentile(time: Time, q: int, **more: Any) -> Metric:
    usual: dict[str, Any] = {
        "name": f"p{q}_{time.name}_ms",
        "how": Quantile(time, q),
        "formula": f"{time.words} = {time.formula}",
        "words": f"p{q} {time.words}",
    }
    return Metric(unit="ms", better="lower", kind="time", **{**usual, **more})


def _rate(name: str, unit: str, how: Quotient, words: str, formula: str, **more: Any) -> Metric:
    return Metric(
        name=name, unit=unit, better="higher", kind="throughput", how=how, words=words, formula=formula, **more
    )


def _count(
    name: str, unit: str, how: Sum | Whole, formula: str, better: Better = "neither", *, block: bool = True
) -> Metric:
    return Metric(name=name, unit=unit, how=how, formula=formula, better=better, block=block)


def _adjusted(time: Time, q: int) -> Metric:
    return _percentile(
        time, q, name=f"adj_p{q}_{time.name}_ms", how=Quantile(time, q, adjusted=True),
        formula="percentiles over all requests of all blocks, failed ones as +inf; null where they fall on a failure",
    )  # fmt: skip


def _latency(q: int) -> Metric:
    return _percentile(
        E2E, q, name=f"p{q}_latency_ms", words=f"p{q} latency", styles=_BATCH, block=False,
        formula="the percentiles of E2E under the names that batch tables give them (style `batch` only)",
    )  # fmt: skip


_TABLE: Final = (
    _rate(
        "throughput_tok_s", "tok/s", THROUGHPUT, "tokens/sec",
        "tokens_out / duration_s: ramp and drain included", compared=True, ratio=_BOTH,
    ),
    _latency(50),
    _latency(95),
    _percentile(TTFT, 50, compared=True, limits=True),
    _percentile(TTFT, 95, compared=True, limits=True, ratio=_CHAT),
    _percentile(E2E, 50, compared=True, limits=True),
    _percentile(E2E, 95, compared=True, limits=True, ratio=_BOTH),
    _count(
        "n", "requests", Sum(lambda block: len(block.requests), everyone=True),
        "all requests, failed ones and those of invalid blocks included",
    ),
    _count(
        "failures", "requests", Sum(lambda block: len(block.requests) - len(block.ok), everyone=True),
        "those of n that are not ok", better="lower",
    ),
    _count("n_used", "requests", OK, "ok requests of the used blocks: what percentiles and rates rest on", block=False),
    _count("blocks", "blocks", Sum(lambda block: block.valid, everyone=True), "valid blocks", block=False),
    _count(
        "blocks_invalid", "blocks", Sum(lambda block: not block.valid, everyone=True), "blocks that a guard refused",
        block=False,
    ),
    _percentile(TPOT, 50, compared=True, limits=True),
    _percentile(TPOT, 95, limits=True),
    _percentile(CHUNK_GAP, 50),
    _percentile(ITL, 50, limits=True),
    _percentile(ITL, 95, limits=True),
    _rate("request_rate_s", "requests/s", Quotient(OK, DURATION), "requests/sec", "ok requests / duration_s"),
    _count(
        "tokens_in", "tokens", Sum(lambda block: _all_known(r.prompt_tokens for r in block.ok), whole=True),
        "sum of usage.prompt_tokens over ok requests; null unless each has it",
    ),
    _count("tokens_out", "tokens", TOKENS_OUT, "sum of usage.completion_tokens over ok requests"),
    _count(
        "chunks", "chunks", Sum(lambda block: sum(r.chunks for r in block.ok)),
        "stream messages that carried tokens, over ok requests",
    ),
    _count("duration_s", "s", DURATION, "max(end) - min(sent) over all requests, summed over blocks"),
    _rate(
        "throughput_steady_tok_s", "tok/s", Quotient(Sum(_steady_tokens), STEADY), "steady tokens/sec",
        "output tokens that arrived in the steady window / steady_s; those after the first read are spread evenly",
    ),
    _count(
        "steady_s", "s", STEADY,
        "length of the steady window, from the first to the last moment with >= 95 % of the asked concurrency in "
        "flight; summed over blocks",
    ),
    Metric(
        name=PER_GPU, unit="tok/s", better="higher", kind="throughput", how=Whole(_throughput_per_gpu), block=False,
        words="tokens/sec per GPU", formula="throughput_tok_s / the GPUs that serve the model (`models.*.gpus`)",
    ),
    _count(
        "throughput_cv", "share", Whole(_throughput_cv),
        "standard deviation / mean of the used blocks' throughput_tok_s; needs 2 blocks", better="lower", block=False,
    ),
    Metric(
        name="j_per_token", unit="J/token", better="lower", kind="energy", how=Quotient(ENERGY, TOKENS_OUT),
        words="energy per token", compared=True,
        formula="energy of the cards during the block, by their own counter (the board, not CPU or power supply) / "
        "tokens_out; null unless each used block has it, and where `energy_mismatch` warns",
    ),
    *(_adjusted(time, q) for time in (TTFT, E2E) for q in (50, 95)),
    *(_percentile(time, 99, block=False, formula="percentiles from 1 000 requests on") for time in (TTFT, E2E)),
)  # fmt: skip

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _TABLE}
BLOCK_METRICS: Final = frozenset(name for name, metric in METRICS.items() if metric.block)
COMPARED: Final = tuple(name for name, metric in METRICS.items() if metric.compared)
"""Metrics in which variants are compared, in the order of the tables."""
_FOCUS: Final[Mapping[str, tuple[str, ...]]] = {
    "interactive": ("p50_ttft_ms", "p95_ttft_ms", "p50_e2e_ms", "p95_e2e_ms", "throughput_tok_s"),
    "batch": ("throughput_tok_s", "p50_latency_ms", "p95_latency_ms", "p50_ttft_ms", "p95_ttft_ms"),
}


def focus(style: str) -> tuple[str, ...]:
    """Metrics of the capacity table of a style of workload, in order: what the specification asks for."""
    return _FOCUS[style]


def quantiles() -> Iterator[tuple[Metric, Quantile]]:
    """Metrics that are percentiles, with what they are of."""
    return ((metric, metric.how) for metric in METRICS.values() if isinstance(metric.how, Quantile))
