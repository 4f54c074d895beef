"""Every metric, once: name, unit, direction, formula, how blocks become a tuple, where it is compared and shown, words.

Symbols, per request: sent = stamp right before the request is written to the socket; first, last = arrival of the
first and last read that brought output tokens; end = the end of the HTTP reply; tokens = completion_tokens of
the server's usage; first_tokens = tokens that had arrived by `first`. Only requests that are `ok` enter
percentiles and token sums; failures are counted, and enter the adjusted percentiles as +inf.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Style = Literal["interactive", "batch"]
Better = Literal["higher", "lower", "neither"]
Kind = Literal["throughput", "time", "energy", "count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a figure means.

    words: as prose says it. time, q, adjusted: of a percentile over requests, which time of a request and which
    percentile of it. compared: whether variants are compared in it. focus: the styles of workload whose capacity table
    shows it. ratio: the styles whose table of ratios shows it. block: whether a block has it (else only a tuple's row).
    """

    name: str
    unit: str
    better: Better
    formula: str
    words: str = ""
    kind: Kind = "count"
    time: str = ""
    q: int = 0
    adjusted: bool = False
    compared: bool = False
    focus: tuple[Style, ...] = ()
    ratio: tuple[Style, ...] = ()
    block: bool = True

    @property
    def higher_is_better(self) -> bool:
        """Its direction; what has none counts as better when lower."""
        return self.better == "higher"

    def is_better(self, ratio: float) -> bool:
        """Whether a ratio variant / baseline other than 1 is a gain."""
        return (ratio > 1) == self.higher_is_better


_TTFT = "TTFT = first - sent"
_E2E = "E2E = last - sent (the last token, not the closing of the stream; so E2E = TTFT + decode time)"
_TPOT = (
    "TPOT = (last - first) / (tokens - first_tokens): the tokens that came in (first, last], over that time; "
    "dividing by tokens - 1 would be wrong when the first read brings more than one token"
)
_GAP = "chunk gap = (last - first) / (chunks - 1), one mean per request, as several chunks can share a read"
_MOST = "; null if fewer than 90 % of the ok requests have one, as a minority is not the block"
_ADJUSTED = "; a failed request counts as +inf, and a percentile that falls on one is null"
_CHAT: tuple[Style, ...] = ("interactive",)
_BATCH: tuple[Style, ...] = ("batch",)
_BOTH: tuple[Style, ...] = ("interactive", "batch")


def _percentile(
    time: str,
    q: int,
    formula: str,
    words: str,
    *,
    compared: bool = False,
    focus: tuple[Style, ...] = (),
    ratio: tuple[Style, ...] = (),
    adjusted: bool = False,
) -> Metric:
    return Metric(
        name=f"{'adj_' if adjusted else ''}p{q}_{time}_ms",
        unit="ms",
        better="lower",
        formula=f"p{q} over requests of {formula}",
        words=f"p{q} {words}",
        kind="time",
        time=time,
        q=q,
        adjusted=adjusted,
        compared=compared,
        focus=focus,
        ratio=ratio,
    )


def _table() -> Iterator[Metric]:
    count = {"better": "neither", "kind": "count"}
    yield Metric(name="n", unit="requests", formula="all requests of the block, failed ones included", **count)  # type: ignore[arg-type]
    yield Metric(name="failures", unit="requests", better="lower", formula="requests that are not ok")
    yield Metric(
        name="tokens_in",
        unit="tokens",
        formula="sum of usage.prompt_tokens over ok requests; null unless each has it",
        **count,  # type: ignore[arg-type]
    )
    yield Metric(name="tokens_out", unit="tokens", formula="sum of usage.completion_tokens over ok requests", **count)  # type: ignore[arg-type]
    yield Metric(name="chunks", unit="chunks", formula="stream messages that carried tokens, over ok requests", **count)  # type: ignore[arg-type]
    yield Metric(name="duration_s", unit="s", formula="max(end) - min(sent) over all requests", **count)  # type: ignore[arg-type]
    yield Metric(
        name="throughput_tok_s", unit="tok/s", better="higher", kind="throughput", words="tokens/sec", compared=True,
        focus=_BOTH, ratio=_BOTH, formula="tokens_out / duration_s: ramp and drain included",
    )  # fmt: skip
    yield Metric(
        name="throughput_steady_tok_s", unit="tok/s", better="higher", kind="throughput", words="steady tokens/sec",
        formula="output tokens that arrived in the steady window / steady_s; those after the first spread evenly",
    )  # fmt: skip
    yield Metric(
        name="steady_s", unit="s", better="neither",
        formula="length of the steady window: first to last moment with >= 95 % of the asked concurrency in flight",
    )  # fmt: skip
    yield Metric(
        name="request_rate_s", unit="requests/s", better="higher", kind="throughput", words="requests/sec",
        formula="ok requests / duration_s",
    )  # fmt: skip
    yield _percentile("ttft", 50, _TTFT, "TTFT", compared=True, focus=_BOTH)
    yield _percentile("ttft", 95, _TTFT, "TTFT", compared=True, focus=_BOTH, ratio=_CHAT)
    yield _percentile("e2e", 50, _E2E, "E2E", compared=True, focus=_CHAT)
    yield _percentile("e2e", 95, _E2E, "E2E", compared=True, focus=_CHAT, ratio=_BOTH)
    yield _percentile("tpot", 50, _TPOT + _MOST, "TPOT", compared=True)
    yield _percentile("tpot", 95, _TPOT + _MOST, "TPOT")
    yield _percentile("chunk_gap", 50, _GAP + _MOST, "chunk gap")
    for time, formula in (("ttft", _TTFT), ("e2e", _E2E)):
        for q in (50, 95):
            yield _percentile(time, q, formula + _ADJUSTED, time.upper(), adjusted=True)
    yield Metric(
        name="j_per_token", unit="J/token", better="lower", kind="energy", words="energy per token", compared=True,
        formula="energy of the GPUs during the block / tokens_out",
    )  # fmt: skip
    for q in (50, 95):
        yield Metric(
            name=f"p{q}_latency_ms", unit="ms", better="lower", kind="time", words=f"p{q} latency", focus=_BATCH,
            block=False,
            formula=f"p{q}_e2e_ms of a batch workload, under the name that batch tables give it",
        )  # fmt: skip


METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _table()}
BLOCK_METRICS: Final = frozenset(name for name, metric in METRICS.items() if metric.block)
COMPARED: Final = tuple(name for name, metric in METRICS.items() if metric.compared)
"""Metrics in which variants are compared, in the order of the tables."""


def focus(style: str) -> tuple[str, ...]:
    """Metrics of the capacity table of a style of workload: batch reads throughput first."""
    names = [name for name, metric in METRICS.items() if style in metric.focus]
    return tuple(sorted(names, key=_FOCUS_ORDER[style].index))


_FOCUS_ORDER: Final = {
    "interactive": ["p50_ttft_ms", "p95_ttft_ms", "p50_e2e_ms", "p95_e2e_ms", "throughput_tok_s"],
    "batch": ["throughput_tok_s", "p50_latency_ms", "p95_latency_ms", "p50_ttft_ms", "p95_ttft_ms"],
}
