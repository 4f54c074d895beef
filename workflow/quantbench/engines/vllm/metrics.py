"""A vLLM `/metrics` page → counters, gauges and cache facts; the difference of two pages.

Names read in the sources of vLLM 0.26.0, 0.32.0 and 0.33.0 (the ones used here are the same in all three; older
spellings follow them). A figure that the page does not hold is None. Values are summed over engines and models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from quantbench.records.block import Delta, Page, Peak

# contract name → sample names, newest first; the first one on the page is taken
COUNTERS: dict[str, tuple[str, ...]] = {
    "prefix_cache_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "prefix_cache_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    "preemptions": ("vllm:num_preemptions_total",),
    "generation_tokens": ("vllm:generation_tokens_total",),
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "queue_time_sum_s": ("vllm:request_queue_time_seconds_sum",),
    "queue_time_count": ("vllm:request_queue_time_seconds_count",),
    "prefill_time_sum_s": ("vllm:request_prefill_time_seconds_sum",),
    "decode_time_sum_s": ("vllm:request_decode_time_seconds_sum",),
    "requests_succeeded": ("vllm:request_success_total",),
    "corrupted_requests": ("vllm:corrupted_requests_total",),
    "spec_decode_drafts": ("vllm:spec_decode_num_drafts_total",),
    "spec_decode_draft_tokens": ("vllm:spec_decode_num_draft_tokens_total",),
    "spec_decode_accepted_tokens": ("vllm:spec_decode_num_accepted_tokens_total",),
}
GAUGES: dict[str, tuple[str, ...]] = {
    "requests_running": ("vllm:num_requests_running",),
    "requests_waiting": ("vllm:num_requests_waiting",),
}
_KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
_START = "process_start_time_seconds"
_CACHE = "vllm:cache_config_info"
_SECONDS = ("queue_time_sum_s", "prefill_time_sum_s", "decode_time_sum_s")
_FINISHED_BADLY = ("abort", "error")

Samples = dict[str, list[tuple[Mapping[str, str], float]]]


def snapshot(page: str) -> Page:
    """All figures of one page; None for each that it does not hold (all None for an empty or an HTML error page).

    kv_usage is the fullest engine's share in 0…1; process_start_time is in Unix seconds; kv_cache_tokens,
    max_concurrency and num_gpu_blocks are summed over engines. engine_tokens: generation tokens by engine and model.
    """
    samples = _samples(page)
    totals: dict[str, Any] = {name: _total(samples, keys, name) for name, keys in {**COUNTERS, **GAUGES}.items()}
    usage = [value for key in _KV_USAGE for _, value in samples.get(key, [])]
    starts = [value for _, value in samples.get(_START, [])]
    return Page(
        **totals,
        kv_usage=max(usage, default=None),
        process_start_time=max(starts, default=None),
        engine_tokens=_per_engine(samples, COUNTERS["generation_tokens"]),
        **_cache_facts([labels for labels, _ in samples.get(_CACHE, [])]),
    )


def difference(before: Page, after: Page) -> Delta:
    """Counters of `after` minus those of `before`; None where either lacks one.

    `restarted` when the process started anew or a counter went down: then no difference means anything.
    """
    starts = {before.process_start_time, after.process_start_time} - {None}
    old_engines, new_engines = before.engine_tokens or {}, after.engine_tokens or {}
    # One engine anew is hidden in the sum by the growth of another.
    anew = any(new_engines.get(engine, tokens) < tokens for engine, tokens in old_engines.items())
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in COUNTERS}
    delta: dict[str, Any] = {
        name: None if None in pair else round(pair[1] - pair[0], 9) for name, pair in pairs.items()
    }
    if len(starts) > 1 or anew or any(rise < 0 for rise in delta.values() if rise is not None):
        return Delta(restarted=True)
    return Delta(**delta)


def peak(pages: Sequence[Page]) -> Peak:
    """The highest running, waiting and kv_usage over several pages; None where none of them tells."""

    def highest(name: str) -> Any:
        return max((value for page in pages if (value := getattr(page, name)) is not None), default=None)

    return Peak(running=highest("requests_running"), waiting=highest("requests_waiting"), kv_usage=highest("kv_usage"))


def _samples(page: str) -> Samples:
    samples: Samples = {}
    for name, labels, value in _parsed(page):
        if math.isfinite(value):
            samples.setdefault(name, []).append((labels, value))
    return samples


def _parsed(page: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    if page.lstrip()[:1] == "<":
        return
    whole = page[: page.rfind("\n") + 1]  # a last line without its end may be cut in a number
    try:
        for family in text_string_to_metric_families(whole):
            for sample in family.samples:
                yield sample.name, sample.labels, float(sample.value)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError):
        return  # not a metrics page, or one cut short: what was read up to here stands


def _total(samples: Samples, keys: tuple[str, ...], name: str) -> float | int | None:
    rows = next((samples[key] for key in keys if key in samples), None)
    if rows is None:
        return None
    if name == "requests_succeeded":
        rows = [row for row in rows if row[0].get("finished_reason") not in _FINISHED_BADLY]
    total = sum(value for _, value in rows)
    return total if name in _SECONDS else round(total)


def _per_engine(samples: Samples, keys: tuple[str, ...]) -> dict[str, float] | None:
    rows = next((samples[key] for key in keys if key in samples), None)
    return {",".join(f"{k}={v}" for k, v in sorted(labels.items())): value for labels, value in rows} if rows else None


def _cache_facts(engines: list[Mapping[str, str]]) -> dict[str, Any]:
    def figures(label: str) -> list[float]:
        texts = [labels.get(label, "") for labels in engines]
        return [float(t) for t in texts if t.replace(".", "", 1).isdecimal()]

    tokens, blocks = figures("kv_cache_size_tokens"), figures("num_gpu_blocks")
    concurrency, size = figures("kv_cache_max_concurrency"), figures("block_size")
    dtypes = sorted({labels["cache_dtype"] for labels in engines if labels.get("cache_dtype")})
    return {
        "kv_cache_tokens": round(sum(tokens)) if tokens else None,
        "max_concurrency": sum(concurrency) if concurrency else None,
        "num_gpu_blocks": round(sum(blocks)) if blocks else None,
        "block_size": round(size[0]) if size else None,
        "cache_dtype": ",".join(dtypes) or None,
    }
