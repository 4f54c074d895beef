"""Faults that real vLLM (CPU build) shows by itself, on two servers that are set up wrongly on purpose.

The first caches prefixes, takes two sequences at a time, has a short max-model-len, uses the sampling defaults of its
repository, and is killed within a block. The second takes its port: other dtype, tokenizer and chat template, a KV
cache of a few blocks, and a weight that is not a number. Everything is read as a run reads it: the lane starts the
server, `load` asks it, guards judge the facts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from quantbench import block
from quantbench.client import load
from quantbench.client.load_spec import LoadSpec
from quantbench.client.prompt_file import read_prompts
from quantbench.engines.vllm import client, engine, metrics
from quantbench.errors import QuantbenchError
from quantbench.judge import guards
from quantbench.records.block import BlockContext
from quantbench.records.request import RequestRecord
from quantbench.records.server import Ready, ServerSpec
from quantbench.serving import lane
from servers import fake_spec, killed_in_a_block, measured, own_home, started, write_prompts
from source import ROOT, VLLM_PYTHON

pytestmark = [pytest.mark.vllm, pytest.mark.alone, pytest.mark.timeout(300)]
MAX_LEN = 512
LONG = "The capital of France is Paris, and the river that runs through the city is the Seine. " * 7
SIX_BLOCKS_GIB = 2_400_000 / 2**30  # 3 072 bytes per token in float32, 128 tokens per block
ALLOWED = {
    "concurrency_not_held", "client_loop_lag", "client_loop_lag_tail", "coalesced_reads", "short_block", "ramp_share",
    "client_error", "host_steal", "foreign_load", "cpu_quota",
}  # fmt: skip
"""What a short block on a busy or borrowed machine may show beside the planted fault."""
Server = tuple[ServerSpec, Ready]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with prompts, and a state folder of its own; nothing may be left behind."""
    if not VLLM_PYTHON.exists():
        pytest.fail("no .venv-vllm: run `make setup`")
    with pytest.MonkeyPatch.context() as patch, own_home(tmp_path_factory.mktemp("planted"), patch) as folder:
        for name, text in (("short", "Once upon a time"), ("long", LONG)):
            write_prompts(name, (f"{text} {number}" for number in range(8)))
        yield folder


def spec_of(home: Path, model: str, **changes: Any) -> ServerSpec:
    """A server of a copy of the demo model, in models/{model}."""
    shutil.copytree(ROOT / "data" / "demo-model", home / "models" / model)
    changes = {"max_model_len": MAX_LEN, "max_num_seqs": 4, "prefix_caching": True, "start_timeout_s": 240} | changes
    command = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.cli.main"]
    return fake_spec(None, model, source=str(home / "models" / model), command=command, **changes)


def edit(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def server(home: Path) -> Server:
    """The first server."""
    spec = spec_of(home, "demo", max_num_seqs=2, args=["--generation-config", "auto"])
    edit(Path(spec.source, "generation_config.json"), temperature=0.7, top_p=0.8)
    return spec, started(spec)


@pytest.fixture(scope="module")
def killed(server: Server) -> BlockContext:
    """The context of the block in which the first server is killed, at its fourth answer."""
    with killed_in_a_block(server[1]):
        return judged(server, 2, "short", min_seconds=90)[1]


POISON = """
import sys
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = float("nan")
save_file(tensors, sys.argv[1], metadata={"format": "pt"})
"""


@pytest.fixture(scope="module")
def other(home: Path, server: Server, killed: BlockContext) -> Server:
    """The second server, on the port of the first."""
    spec = spec_of(home, "other", port=server[0].port, dtype="float32", kv_cache_gib=SIX_BLOCKS_GIB)
    tokenizer = Path(spec.source, "tokenizer.json")
    model = json.loads(tokenizer.read_text())["model"]
    edit(tokenizer, model=model | {"merges": model["merges"][:200]})  # of its parts, Transformers reads only the model
    bare = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    edit(Path(spec.source, "tokenizer_config.json"), chat_template=bare)
    subprocess.run([VLLM_PYTHON, "-c", POISON, str(Path(spec.source, "model.safetensors"))], check=True)
    return spec, started(spec)


def judged(server: Server, concurrency: int, prompts: str, **knobs: Any) -> tuple[list[RequestRecord], BlockContext]:
    """A block of 16 tokens per answer."""
    knobs = {"max_tokens": 16, "min_seconds": 0.5, "concurrency": concurrency} | knobs
    records, context = measured(*server, prompts, **knobs)
    return records, guards.judged(context, server[1], None)


def bad(context: BlockContext) -> set[str]:
    return {result.id for result in context.guards if result.status in ("fail", "warn")}


def test_distinct_requests_have_no_prefix_hits_even_where_prefixes_are_cached(server: Server) -> None:
    """The clean case: other requests of one seed share nothing, as each begins with a text of its own."""
    _, context = judged(server, 2, "long")
    assert context.server.delta.prefix_cache_queries > 0
    assert context.server.delta.prefix_cache_hits == 0
    assert bad(context) <= ALLOWED, context.guards


@pytest.mark.fault("vLLM: requests that share their beginning", "`prefix_cache` by the server's own counters")
def test_prefix_cache_hits_show_in_the_counters_of_the_block(server: Server) -> None:
    """The same seed twice without a word of difference is what a client without distinct prompts would send."""
    spec, ready = server
    _, clean = judged(server, 2, "long")
    with lane.lease(spec) as lease:
        load_spec = LoadSpec(
            url=lease.url, model="demo", prompts=read_prompts(Path("long.jsonl")), concurrency=2, max_tokens=16,
            min_requests=4, warmup_requests=0, seed="again",
        )  # fmt: skip
        load.run_block(load_spec)
        poller = block.MetricsPoller(engine, lease.url, lease.log)
        records = load.run_block(load_spec, before=poller.start, after=poller.stop).records
    assert all(record.ok for record in records)
    before, after = (metrics.snapshot(page) for page in (poller.page_before, poller.page_after))
    facts = replace(clean.server, before=before, after=after, delta=metrics.difference(before, after))
    figures = clean.metrics | {"n": len(records), "chunks": 16 * len(records), "tokens_out": 16 * len(records)}
    repeated = replace(clean, server=facts, metrics=figures)
    assert facts.delta.prefix_cache_hits >= 4 * 128
    context = guards.judged(repeated, ready, None)
    assert "prefix_cache" in context.reasons
    assert bad(context) - ALLOWED == {"prefix_cache"}, context.guards


def test_more_requests_than_sequences_queue(server: Server) -> None:
    _, context = judged(server, 8, "short", min_requests=16)
    assert "queueing" in bad(context)
    assert bad(context) <= ALLOWED | {"queueing"}, context.guards
    assert context.valid or set(context.reasons) <= {"client_loop_lag"}


@pytest.mark.fault("vLLM: a prompt longer than the model takes", "a failed request; a block of them ends in words")
def test_a_prompt_that_is_longer_than_the_model_takes_is_a_failed_request(server: Server) -> None:
    """One among many makes the block invalid: without some of its prompts it would be another workload."""
    spec, _ = server
    write_prompts("huge", [*(f"Once upon a time {number}" for number in range(8)), LONG * 5])
    records, context = judged(server, 1, "huge", min_requests=9)
    assert {record.reason for record in records if record.prompt_id == "8"} == {"http_4xx"}
    assert all(record.ok for record in records if record.prompt_id != "8")
    assert "failed_requests" in context.reasons
    with lane.lease(spec) as lease:
        assert lease.action == "reused"  # the server is well, only the request was not


def test_prompts_that_are_all_too_long_end_the_block_in_words(server: Server) -> None:
    write_prompts("huge", [LONG * 5])
    with pytest.raises(QuantbenchError, match=f"HTTP 400 .*maximum context length is {MAX_LEN} tokens"):
        judged(server, 1, "huge", min_requests=3)


def test_the_server_record_shows_what_is_set_up_wrongly(server: Server) -> None:
    _, ready = server
    assert ready.settings.max_model_len == MAX_LEN
    assert guards.failed(guards.evaluate_server(ready)) == ["sampling_defaults"]
    assert ready.tokenizer.chat_is_plain is False
    plain = {"max_model_len": 1024, "prefix_caching": False, "sampling_defaults_overridden": False}
    right = replace(ready, settings=replace(ready.settings, **plain))
    _, clean = judged(server, 2, "short")
    failures = guards.comparison_failures(right, ready, [clean], [clean])
    assert failures == ["max_model_len", "prefix_caching", "sampling_defaults"]


@pytest.mark.fault("vLLM: its server is killed within a block", "no valid block")
def test_a_server_that_is_killed_within_a_block_is_no_valid_block(killed: BlockContext) -> None:
    assert "failed_requests" in killed.reasons
    assert set(killed.failure_reasons) <= {"disconnected", "connect"}
    assert killed.metrics["n"] > killed.metrics["failures"]  # it did answer before


@pytest.mark.fault("vLLM: another process answers at the end of a block", "`server_restart`")
def test_another_process_at_the_end_of_the_block_is_a_restart(killed: BlockContext, other: Server) -> None:
    """What the block would have seen, had the second server been there in time: same port, counters from zero."""
    after = metrics.snapshot(client.metrics_page(other[1].url))
    delta = metrics.difference(killed.server.before, after)
    facts = replace(killed.server, after=after, delta=delta, process_start_time=after.process_start_time)
    assert "server_restart" in guards.judged(replace(killed, server=facts), other[1], None).reasons


@pytest.mark.fault("vLLM: a variant with another dtype, tokenizer and template", "not compared")
def test_a_variant_that_differs_in_dtype_tokenizer_and_template_is_not_compared(server: Server, other: Server) -> None:
    failed = guards.failed(guards.evaluate_pair(server[1], other[1], [], []))
    assert failed == ["dtype", "tokenizer", "template_differs"]
    assert guards.failed(guards.evaluate_server(other[1])) == ["chat_template"]


@pytest.mark.fault("vLLM: a KV cache that is too small", "`preemption` by the server's own counters")
def test_a_kv_cache_that_is_too_small_preempts(other: Server) -> None:
    """Four requests of two blocks each do not fit into six, of which vLLM keeps one for itself."""
    _, context = judged(other, 4, "short", max_tokens=200)
    assert context.server.delta.preemptions > 0
    assert "preemption" in bad(context)
    assert bad(context) <= ALLOWED | {"preemption", "queueing", "nan_logits"}, context.guards


@pytest.mark.fault("vLLM: one weight is not a number", "`nan_logits`, though plain requests succeed")
def test_one_weight_that_is_not_a_number_is_found_though_plain_requests_succeed(other: Server) -> None:
    assert other[1].test_completion.tokens == 16
    assert other[1].logits.finite is False
    _, context = judged(other, 1, "short")
    assert "nan_logits" in context.reasons
    assert "JSON" in next(result.detail for result in context.guards if result.id == "nan_logits")
