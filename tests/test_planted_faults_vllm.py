"""Faults that real vLLM (CPU build) shows by itself, on one server that is set up wrongly on purpose.

It caches prefixes, takes two sequences at a time, has a short max-model-len, and uses the sampling defaults of its
repository. Everything is read as a run reads it: the lane starts the server, `load` asks it, guards judge the facts.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import ROOT
from quantbench import block
from quantbench.client import load
from quantbench.client.load_spec import LoadSpec
from quantbench.client.prompt_file import read_prompts
from quantbench.errors import QuantbenchError
from quantbench.judge import guards
from quantbench.observe import server_metrics
from quantbench.observe.watch import Watch
from quantbench.serving import lane, owner, processes
from servers import fake_spec, left_over

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(300)]
MAX_LEN = 512
LONG = "The capital of France is Paris, and the river that runs through the city is the Seine. " * 7
KNOBS = {
    "protocol": 1, "workload": "chat", "style": "chat", "max_tokens": 16, "min_seconds": 0.5, "min_requests": 4,
    "warmup_requests": 2, "warmup_max_tokens": 4, "timeout_s": 60.0, "endpoint": "completions", "template": None,
}  # fmt: skip
ALLOWED = {"client_loop_lag", "client_loop_lag_tail", "coalesced_reads", "short_block", "ramp_share", "client_error"}
"""What a short block on a busy machine may show beside the planted fault."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(spec, ready record) of the one server."""
    if not PYTHON.exists():
        pytest.fail("no .venv-vllm: run `make setup`")
    folder, patch = tmp_path_factory.mktemp("planted"), pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv(owner.STATE, str(folder / "state"))
    for name in (owner.OWNER, owner.DEVICES, owner.SERVERS):
        patch.delenv(name, raising=False)
    shutil.copytree(ROOT / "data" / "demo-model", folder / "models" / "demo")
    defaults = folder / "models" / "demo" / "generation_config.json"
    defaults.write_text(json.dumps(json.loads(defaults.read_text()) | {"temperature": 0.7, "top_p": 0.8}))
    spec = fake_spec(
        None, "demo", source=str(folder / "models" / "demo"), command=[str(PYTHON), "-m", "vllm.entrypoints.cli.main"],
        max_model_len=MAX_LEN, max_num_seqs=2, prefix_caching=True, start_timeout_s=120,
        args=["--generation-config", "auto"],
    )  # fmt: skip
    for name, text in (("short", "Once upon a time"), ("long", LONG)):
        lines = [json.dumps({"id": str(n), "prompt": f"{text} {n}"}) for n in range(8)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    try:
        with lane.lease(spec) as lease:
            ready = {**lease.state["ready"], "gpu_name": "CPU"}
        yield spec, ready
        assert lane.stop(spec) is True
        assert processes.until(lambda: not left_over(folder / "state"), 10), left_over(folder / "state")
    finally:
        lane.sweep("end of the tests")
        patch.undo()


def measured(server: tuple[dict[str, Any], dict[str, Any]], concurrency: int, prompts: str, **knobs: Any) -> Any:
    spec, ready = server
    asked = KNOBS | {"concurrency": concurrency} | knobs
    one = block.Block("demo", 1, spec, asked, "cpu", "CPU", Path(f"{prompts}.jsonl"))
    records, context = block.measure(one, ready)
    return records, guards.judged(context, ready, None)


def bad(found: dict[str, Any]) -> set[str]:
    return {row["id"] for row in found["guards"] if row["status"] in ("fail", "warn")}


def test_distinct_requests_have_no_prefix_hits_even_where_prefixes_are_cached(server: Any) -> None:
    """The clean case: other requests of one seed share nothing, as each begins with a text of its own."""
    _, found = measured(server, 2, "long")
    assert found["server"]["delta"]["prefix_cache_queries"] > 0
    assert found["server"]["delta"]["prefix_cache_hits"] == 0
    assert bad(found) <= ALLOWED, found["guards"]


def test_prefix_cache_hits_show_in_the_counters_of_the_block(server: Any) -> None:
    """The same seed twice without a word of difference is what a client without distinct prompts would send."""
    spec, ready = server
    _, clean = measured(server, 2, "long")
    with lane.lease(spec) as lease:
        asked = LoadSpec(
            url=lease.url, model="demo", prompts=read_prompts(Path("long.jsonl")), concurrency=2, max_tokens=16,
            min_requests=4, max_requests=4, warmup_requests=0, seed="again",
        )  # fmt: skip
        load.run_block(asked)
        watch = Watch(lease.url, lease.log)
        records = load.run_block(asked, before=watch.start, after=watch.stop).records
    assert all(record.ok for record in records)
    before, after = (server_metrics.snapshot(page) for page in (watch.page_before, watch.page_after))
    repeated = copy.deepcopy(clean)
    repeated["server"] |= {"before": before, "after": after, "delta": server_metrics.difference(before, after)}
    repeated["metrics"]["tokens_out"] = 16 * len(records)
    repeated["metrics"] |= {"n": len(records), "chunks": 16 * len(records)}
    assert repeated["server"]["delta"]["prefix_cache_hits"] >= 4 * 128
    found = guards.judged(repeated, ready, None)
    assert "prefix_cache" in found["reasons"]
    assert bad(found) - ALLOWED == {"prefix_cache"}, found["guards"]


def test_more_requests_than_sequences_queue(server: Any) -> None:
    _, found = measured(server, 8, "short", min_requests=16)
    assert "queueing" in bad(found)
    assert bad(found) <= ALLOWED | {"queueing"}, found["guards"]
    assert found["valid"] or set(found["reasons"]) <= {"client_loop_lag"}


def test_a_prompt_that_is_longer_than_the_model_takes_is_a_failed_request(server: Any) -> None:
    """One among many makes the block invalid: without some of its prompts it would be another workload."""
    spec, _ = server
    lines = [*Path("short.jsonl").read_text().splitlines(), json.dumps({"id": "huge", "prompt": LONG * 5})]
    Path("huge.jsonl").write_text("\n".join(lines))
    records, found = measured(server, 1, "huge", min_requests=9)
    assert {record.reason for record in records if record.prompt_id == "huge"} == {"http_4xx"}
    assert all(record.ok for record in records if record.prompt_id != "huge")
    assert "failed_requests" in found["reasons"]
    with lane.lease(spec) as lease:
        assert lease.action == "reused"  # the server is well, only the request was not


def test_prompts_that_are_all_too_long_end_the_block_in_words(server: Any) -> None:
    Path("huge.jsonl").write_text(json.dumps({"id": "huge", "prompt": LONG * 5}))
    with pytest.raises(QuantbenchError, match=f"HTTP 400 .*maximum context length is {MAX_LEN} tokens"):
        measured(server, 1, "huge", min_requests=3)


def test_the_server_record_shows_what_is_set_up_wrongly(server: Any) -> None:
    _, ready = server
    assert ready["settings"]["max_model_len"] == MAX_LEN
    assert guards.failed(guards.evaluate_server(ready)) == ["sampling_defaults"]
    assert ready["tokenizer"]["chat_is_plain"] is False
    right = copy.deepcopy(ready)
    right["settings"] |= {"max_model_len": 1024, "prefix_caching": False, "sampling_defaults_overridden": False}
    _, clean = measured(server, 2, "short")
    failures = guards.comparison_failures(right, ready, [clean], [clean])
    assert failures == ["max_model_len", "prefix_caching", "sampling_defaults"]
