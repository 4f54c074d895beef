"""The load client against a server whose faults are known: every fault is a failure with its reason."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ports import free_ports
from quantbench.client.load import run_block, warm_up
from quantbench.client.load_checks import models_at
from quantbench.client.load_spec import LoadSpec, body_of, endpoint_of, endpoint_url, sampling
from quantbench.client.prompts import Prompt
from quantbench.client.truth_server import TruthServer
from quantbench.client.truth_stream import MODEL, Schedule
from quantbench.errors import QuantbenchError
from quantbench.serving import processes
from servers import PATIENCE_S

PROMPTS: list[dict[str, Any]] = [{"id": f"p{i}", "prompt": f"Question {i}"} for i in range(3)]
LIBRARY = str(Path(__file__).resolve().parents[3] / "workflow")


@pytest.fixture(scope="module")
def server() -> Iterator[TruthServer]:
    with TruthServer(Schedule(ttft_ms=3, itl_ms=0.5)) as running:
        yield running


def spec(server: TruthServer, **over: Any) -> LoadSpec:
    fields = {"url": server.url, "model": MODEL, "prompts": PROMPTS, "concurrency": 3, "max_tokens": 12}
    return LoadSpec(**{**fields, "timeout_s": PATIENCE_S, **over})  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_block(server: TruthServer, transport: str, endpoint: str) -> None:
    server.log()
    result = run_block(spec(server, transport=transport, endpoint=endpoint, min_requests=7))
    records, client = result.records, result.client
    assert [r.index for r in records] == list(range(9))  # 7 asked, three whole waves done
    assert all(r.ok for r in records), records
    assert {r.completion_tokens for r in records} == {12}
    for r in records:
        assert len(r.gaps_us or ()) == r.reads - 1
        assert sum(r.gaps_us or ()) == pytest.approx(((r.last_ns or 0) - (r.first_ns or 0)) / 1000, abs=12)
    assert all((r.first_ns or 0) - (r.sent_ns or 0) >= 3e6 for r in records)
    assert all((r.last_ns or 0) - (r.sent_ns or 0) >= 3e6 + 11 * 0.5e6 for r in records)
    assert all((r.sent_ns or 0) <= (r.first_ns or 0) <= (r.last_ns or 0) <= (r.end_ns or 0) for r in records)
    assert {r.fingerprint for r in records} == {MODEL}
    assert client.connections_opened == 3
    assert 0 < client.concurrency_held <= 1
    assert None not in client.as_dict().values()
    keys = [row["key"] for row in server.log()]
    assert len(keys) == 3 + 9
    assert len({key[:12] for key in keys}) == 12  # warm-up included, no prompt comes twice


def test_warm_up_requests_may_be_shorter_than_the_measured_ones(server: TruthServer) -> None:
    server.log()
    result = run_block(spec(server, min_requests=3, warmup_max_tokens=4))
    assert {r.completion_tokens for r in result.records} == {12}
    assert sorted(row["tokens"] for row in server.log()) == [4, 4, 4, 12, 12, 12]


def test_a_warm_up_can_be_had_ahead(server: TruthServer) -> None:
    """The same requests as the block's own, from a thread, and then the block without."""
    asked = spec(server, min_requests=3, warmup_max_tokens=4)
    server.log()
    run_block(asked)
    together = server.log()
    thread = threading.Thread(target=warm_up, args=(asked,))
    thread.start()
    thread.join()
    run_block(replace(asked, warmup_requests=0))
    assert [row["key"] for row in server.log()] == [row["key"] for row in together]


REASONS = {
    "error": "in_band_error", "late_error": "in_band_error", "json": "in_band_error", "truncate": "truncated",
    "no_done": "truncated", "cut": "disconnected", "reset": "disconnected", "hang": "timeout", "short": "token_count",
    "no_usage": "no_usage", "http_500": "http_5xx", "http_503": "http_5xx", "http_429": "http_4xx",
    "garbage": "bad_stream",
}  # fmt: skip


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_every_fault_is_a_failure_with_its_reason(server: TruthServer, transport: str) -> None:
    found = {}
    for fault in REASONS:
        faulty = {"truth": {"fault": fault, "after": 4}}
        limit = 0.3 if fault == "hang" else PATIENCE_S
        alone = spec(server, transport=transport, extra_body=faulty, timeout_s=limit, concurrency=1, warmup_requests=0)
        found[fault] = {r.reason for r in run_block(replace(alone, min_requests=2)).records}
    assert found == {fault: {reason} for fault, reason in REASONS.items()}


@pytest.mark.parametrize(
    ("fault", "every", "warmup", "reasons"),
    [
        ("reset", 4, 0, ["None"] * 9 + ["disconnected"] * 3),
        ("http_400", 3, 3, ["None"] * 8 + ["http_4xx"] * 4),  # one refused among others is no end of the block
    ],
)
def test_only_the_requests_that_fail_are_failures(fault: str, every: int, warmup: int, reasons: list[str]) -> None:
    with TruthServer(Schedule(ttft_ms=2, itl_ms=0.2, fault=fault, fault_every=every)) as flaky:
        records = run_block(spec(flaky, min_requests=12, warmup_requests=warmup)).records
    assert sorted(str(r.reason) for r in records) == reasons


@pytest.mark.parametrize("warmup", [0, 3])
def test_a_server_that_refuses_everything_ends_the_block_in_words(warmup: int) -> None:
    with (
        TruthServer(Schedule(fault="http_400")) as strict,
        pytest.raises(QuantbenchError, match=r"refuses requests for model .*prompt is too long") as caught,
    ):
        run_block(spec(strict, min_requests=3, warmup_requests=warmup))
    assert "max_model_len" in caught.value.remedy


def test_several_tokens_per_chunk(server: TruthServer) -> None:
    [record] = run_block(spec(server, concurrency=1, extra_body={"truth": {"tokens_per_chunk": 4}})).records
    assert (record.ok, record.chunks, record.completion_tokens) == (True, 3, 12)
    assert record.first_chunk_tokens in (4, 8, 12)  # a busy machine may read several chunks at once


def test_openai_only_counts_what_comes(server: TruthServer) -> None:
    short = spec(server, openai_only=True, extra_body={"truth": {"fault": "short"}})
    assert all(r.ok and r.completion_tokens == 11 for r in run_block(short).records)


def test_hooks_run_around_the_clock(server: TruthServer) -> None:
    seen: list[tuple[str, float]] = []

    async def before() -> None:
        await asyncio.sleep(0.2)
        seen.append(("before", time.monotonic()))

    lasting = spec(server, min_seconds=0.3)
    result = run_block(lasting, before=before, after=lambda: seen.append(("after", time.monotonic())))
    (first, begin), (last, end) = seen
    assert (first, last) == ("before", "after")
    assert all(0 <= (r.sent_ns or 0) <= (r.end_ns or 0) <= result.duration_s * 1e9 for r in result.records)
    assert 0.3 <= result.duration_s <= end - begin, "the hooks are outside the clock"
    assert len(result.records) % 3 == 0


def test_a_server_that_only_fails_ends_the_block(server: TruthServer) -> None:
    failing = spec(server, min_seconds=60, extra_body={"truth": {"fault": "http_500", "ttft_ms": 0}})
    records = run_block(failing).records
    assert 16 <= len(records) < 40
    assert not any(r.ok for r in records)


def test_a_server_that_goes_away() -> None:
    with TruthServer(Schedule(ttft_ms=3, itl_ms=5)) as mortal:
        token = processes.token(mortal.pid)
        result = run_block(spec(mortal), after=lambda: os.kill(mortal.pid, signal.SIGKILL))
        assert all(r.ok for r in result.records)
        assert processes.until(lambda: not processes.alive(token), PATIENCE_S)
        with pytest.raises(QuantbenchError, match="no server answers"):
            run_block(spec(mortal))


def test_a_server_that_dies_within_a_block_ends_it() -> None:
    with TruthServer(Schedule(ttft_ms=3, itl_ms=5000)) as mortal:  # a stream lasts for a minute: all are under way

        def kill(_: int, seconds: float) -> None:
            if seconds > 2:
                os.kill(mortal.pid, signal.SIGKILL)

        asked = spec(mortal, min_seconds=120, timeout_s=120, warmup_requests=0)
        began = time.monotonic()
        records = run_block(asked, progress=kill).records
    assert time.monotonic() - began < 40
    assert [r.reason for r in records[:3]] == ["disconnected"] * 3
    assert {r.reason for r in records} <= {"disconnected", "connect"}


def test_nothing_listens() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(QuantbenchError, match=url) as error:
        run_block(LoadSpec(url, MODEL, PROMPTS, 2, 4))
    assert "start the server" in error.value.remedy
    assert models_at(url) == []


def test_a_wrong_model_is_answered_with_those_there_are(server: TruthServer) -> None:
    with pytest.raises(QuantbenchError, match=r"'nope'.*404") as error:
        run_block(spec(server, model="nope"))
    assert MODEL in error.value.remedy
    assert models_at(server.url + "/v1") == [MODEL]


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_client_by_that_signal(server: TruthServer, which: signal.Signals) -> None:
    script = f"""
        import signal, sys; sys.path.insert(0, {LIBRARY!r})
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
        from quantbench.client.load import run_block
        from quantbench.client.load_spec import LoadSpec
        spec = LoadSpec({server.url!r}, {MODEL!r}, [{{"prompt": "x"}}], 2, 9, min_seconds=60)
        run_block(spec, before=lambda: print("go", flush=True))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    time.sleep(0.1)
    process.send_signal(which)
    _, errors = process.communicate(timeout=PATIENCE_S)
    # Python itself dies of SIGINT after an uncaught KeyboardInterrupt.
    assert process.returncode == -which, errors


@pytest.mark.parametrize(
    ("url", "endpoint", "full"),
    [
        ("http://h:1", "completions", "http://h:1/v1/completions"),
        ("http://h:1/", "chat", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1", "chat", "http://h:1/v1/chat/completions"),
        ("https://h/base/v1/", "completions", "https://h/base/v1/completions"),
        ("http://h:1/v1/completions", "completions", "http://h:1/v1/completions"),
        ("http://h:1/v1/chat/completions?x=1", "chat", "http://h:1/v1/chat/completions?x=1"),
    ],
)
def test_urls(url: str, endpoint: str, full: str) -> None:
    assert endpoint_url(url, endpoint) == full
    assert endpoint_of(full) == endpoint
    assert endpoint_of("http://h") == "completions"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        *((f"http://{host}", "is not an http") for host in ("", "h:99999", "h:abc/v1", "h:0", "[::1/v1", "e x/v1")),
        *((url, "is not an http") for url in ("h:1", "ftp://h/", f"http://{'a' * 70}.x/")),
        ("http://h/v1/chat/completions", "is not the completions endpoint"),
    ],
)
def test_bad_urls_and_sizes(url: str, words: str) -> None:
    with pytest.raises(QuantbenchError, match=words):
        LoadSpec(url, "m", PROMPTS, 1, 1)
    with pytest.raises(QuantbenchError, match="concurrency is 0"):
        LoadSpec("http://h", "m", PROMPTS, 0, 1)


def test_every_sampling_field_is_set() -> None:
    body = sampling(LoadSpec("http://h", "m", PROMPTS, 1, 7))
    fixed = {"temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1, "seed": 0, "n": 1}
    assert body.items() >= {**fixed, "presence_penalty": 0, "frequency_penalty": 0}.items()
    assert body.items() >= {"ignore_eos": True, "min_tokens": 7, "max_tokens": 7, "return_token_ids": True}.items()
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    plain = sampling(LoadSpec("http://h", "m", PROMPTS, 1, 7, openai_only=True))
    standard = {"model", "max_tokens", "n", "stream", "stream_options", "temperature", "top_p", "seed"}
    assert set(plain) == standard | {"presence_penalty", "frequency_penalty"}


def test_messages_need_the_chat_endpoint() -> None:
    prompt = Prompt("m", "n", messages=({"role": "user", "content": "x"},))
    with pytest.raises(QuantbenchError, match="set endpoint to chat"):
        body_of(LoadSpec("http://h", "m", PROMPTS, 1, 1), {}, prompt)
    assert b'"messages":[{"role":"user"' in body_of(LoadSpec("http://h", "m", PROMPTS, 1, 1, "chat"), {}, prompt)


def test_the_api_key_is_not_shown() -> None:
    assert "secret" not in repr(LoadSpec("http://h", "m", PROMPTS, 1, 1, api_key="secret"))


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_too_few_open_files_are_not_taken_for_a_server_that_is_away(server: TruthServer, transport: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 40
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        with pytest.raises(QuantbenchError, match=f"{limit} connections are more files") as caught:
            run_block(spec(server, concurrency=limit, transport=transport))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "ulimit -n" in caught.value.remedy
