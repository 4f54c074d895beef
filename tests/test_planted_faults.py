"""Each guard is proven by a fault that a server or NVML really shows, over the library's whole path.

Blocks are measured through `block.measure` on tests/fake_vllm.py, which the lane starts, sends to sleep and stops
itself; NVML is tests/fake_nvml.py. One fault is planted per case: its guard must fail or warn, and no other may, except
those that judge timing (TIMING). On a busy machine, which stalls any process now and then, they rightly speak up as
well; for the same reason a case is tried up to four times. What only facts can show is named at the end, with the
reason; tests/unit/judge/test_guards.py plants those.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import FakeGpu, FakeNvml
from msgspec.structs import replace
from quantbench import block
from quantbench.engines.vllm import client, installed, metrics
from quantbench.errors import QuantbenchError
from quantbench.judge import guards
from quantbench.observe import gpu
from quantbench.records.block import BlockContext, BlockKnobs, Calibration, GuardResult
from quantbench.records.server import Ready
from quantbench.serving import lane, memory, processes, registry, server
from quantbench.serving import ready as ready_facts
from servers import behave, changed, gpu_spec, own_home, running

pytestmark = [pytest.mark.timeout(300), pytest.mark.alone, pytest.mark.flaky(reruns=3, only_rerun="AssertionError")]
TOKEN_S = 0.002
Measured = tuple[Ready, list[BlockContext]]
SEVERITY = {guard.id: guard.severity for guard in guards.GUARDS}
CALIBRATION = Calibration(concurrency=2, limit_tok_s=50_000.0, ttft_error_p50_ms=0.05)
KNOBS = BlockKnobs(
    protocol=1, workload="chat", style="interactive", concurrency=2, max_tokens=8, min_seconds=0.2, min_requests=4,
    warmup_requests=2, warmup_max_tokens=4, timeout_s=10.0, endpoint="completions", template=None,
)  # fmt: skip
W4 = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
FP8 = {"quant_method": "fp8"}
NO_FP8 = (
    "Your GPU does not have native support for FP8 computation but FP8 quantization is being used. "
    "Weight-only FP8 compression will be used leveraging the Marlin kernel."
)
ONE_WAVE = {"concurrency": 4, "warmup_requests": 4, "min_requests": 4, "min_seconds": 0.01}
OVERRIDDEN = (
    "Default vLLM sampling parameters have been overridden by the model's `generation_config.json`: `{'top_p': 0.8}`."
)
JIT = "Triton kernel JIT compilation during inference: _fwd_kernel"
STALLED = ("concurrency_not_held", "ramp_share", "short_block")
"""Where the client or a slot stands still at an end of a block of a fifth of a second."""
TIMING = (
    *("client_loop_lag_tail", "client_loop_lag", "coalesced_reads", "energy_mismatch", "client_error"),
    *STALLED,
)
"""Guards of timing: on a busy machine, which stalls any process for a second, they may rightly speak up as well."""


class LiveNvml(FakeNvml):
    """Its clock is the machine's, as the sampler's is."""

    @property
    def now(self) -> float:
        return time.monotonic()

    @now.setter
    def now(self, _: float) -> None: ...


class Arm:
    """One model: its stand-in server, how that behaves, and blocks measured on it."""

    def __init__(self, folder: Path, name: str, **changes: Any) -> None:
        self.folder, self.name, self.blocks = folder / name, name, 0
        self.folder.mkdir(exist_ok=True)
        claim = changes.pop("claim", None)
        if claim:
            changes["claimed"] = {"quantization": claim["quant_method"], "bits": 8.0 if claim is FP8 else 4.0}
        self.static = changes.pop("behaviour", {})
        self.spec = gpu_spec(folder, name, env=self.behave(), **changes)
        if claim:
            Path(self.spec.source, "config.json").write_text(json.dumps({"quantization_config": claim}))

    def behave(self, **rules: Any) -> dict[str, str]:
        return behave(self.folder, **{"token_s": TOKEN_S, "weights_gib": 0.5, **self.static, **rules})

    def ready(self) -> Ready:
        """As the rule start_server writes it."""
        with lane.lease(self.spec) as lease:
            assert lease.ready is not None
            return lease.ready

    def measure(self, ready: Ready, prompts: str = "prompts.jsonl", **knobs: Any) -> BlockContext:
        """The context of one more block, not judged."""
        self.blocks += 1
        one = block.BlockSpec(self.name, self.blocks, self.spec, replace(KNOBS, **knobs), "fake", Path(prompts))
        return block.measure(one, ready)[1]


def troubled(judged: BlockContext | list[GuardResult]) -> set[tuple[str, str]]:
    """(id, status) of all that is not ok."""
    results = judged.guards if isinstance(judged, BlockContext) else judged
    return {(result.id, result.status) for result in results if result.status != "ok"}


def of(*ids: str) -> set[tuple[str, str]]:
    return {(guard, SEVERITY[guard]) for guard in ids}


def noise(*but: str) -> set[tuple[str, str]]:
    return of(*(guard for guard in TIMING if guard not in but))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An own state folder, working folder, NVML and vLLM environment; nothing may be left behind."""
    versions = {"vllm": "0.32.0", "torch": "2.13.0", "python": "3.11.0"}
    with pytest.MonkeyPatch.context() as patch, own_home(tmp_path_factory.mktemp("faults"), patch) as folder:
        patch.setattr(installed, "_versions", lambda interpreter: versions)
        patch.setattr(memory, "FREED_S", 0.1)
        for name, words in (("prompts", 12), ("longer", 24)):
            lines = [json.dumps({"id": str(n), "prompt": f"{n} " + "word " * words}) for n in range(8)]
            Path(f"{name}.jsonl").write_text("\n".join(lines))
        yield folder


def ours(_: float) -> list[tuple[int, int]]:
    """What NVML lists of our own servers."""
    return [(pid, 500) for state in registry.servers() for pid in registry.members(state)]


@pytest.fixture
def card(home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """The one GPU, healthy."""
    healthy = FakeGpu(processes=ours, energy_mj=lambda t: 300_000 * t)
    monkeypatch.setattr(gpu, "pynvml", LiveNvml([healthy]))
    return healthy


@pytest.fixture(scope="module")
def baseline(home: Path) -> Arm:
    return Arm(home, "bf16")


@pytest.fixture
def bf16(baseline: Arm, card: FakeGpu) -> Iterator[Arm]:
    baseline.behave()
    yield baseline
    baseline.behave()


@contextmanager
def variant(home: Path, **changes: Any) -> Iterator[Arm]:
    """A quantized server beside the baseline, stopped afterwards."""
    behaviour = {"weights_gib": 0.15, **changes.pop("behaviour", {})}
    arm = Arm(home, "w4", **{"claim": W4, **changes}, behaviour=behaviour)
    try:
        yield arm
    finally:
        lane.stop(arm.spec)


# A block whose server misbehaves: expected guards, the server's behaviour, knobs of the block.
SERVER_SHOWS: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = [
    (("failed_requests",), {"stream": "truncate", "after": 4}, {}),
    (("failed_requests",), {"stream": "error", "after": 4}, {}),
    (("resent_requests",), {"drop": 5}, {}),
    (("failed_requests", "short_block"), {"stream": "die", "after": 4}, {}),
    (("short_block", "ramp_share"), {"token_s": 0.05}, {"min_requests": 0}),
    (("ramp_share",), {"slow": [24, 1.5]}, {"min_seconds": 0.01, "min_requests": 24}),
    (("concurrency_not_held", "ramp_share", "short_block"), {"slow": [4, 0.7]}, ONE_WAVE),
    (("output_length", "failed_requests", "token_count"), {"short": 2}, {}),
    (("prefix_cache",), {"grow": {"prefix_cache_queries_total": 20, "prefix_cache_hits_total": 16}}, {}),
    (("jit_compilation",), {"incident": JIT}, {}),
    (("jit_compilation",), {"incident": "Capturing CUDA graphs (decode, FULL)", "incident_level": "INFO"}, {}),
    (("nan_logits",), {"grow": {"corrupted_requests_total": 1}}, {}),
    (("nan_logits",), {"incident": "NaNs detected in logits"}, {}),
    (("server_error",), {"incident": "EngineCore hit an error", "incident_level": "ERROR"}, {}),
    (("server_error",), {"incident": "torch.OutOfMemoryError: CUDA out of memory"}, {}),
    (("server_restart",), {"grow": {"process_start_time_seconds": 1}}, {}),
    (("server_restart",), {"grow": {"num_preemptions_total": -1}}, {}),
    (("config_drift",), {"fingerprint": ["fake-1", "fake-1", "fake-1", "fake-2"]}, {}),
    (("config_drift",), {"fingerprint": "fake-2"}, {}),
    (("token_count",), {"grow": {"generation_tokens_total": 3}}, {}),
    (("preemption",), {"grow": {"num_preemptions_total": 1}}, {}),
    (("queueing",), {"grow": {"request_queue_time_seconds_sum": 0.01}}, {}),
    (("speculative",), {"grow": {"spec_decode_num_drafts_total": 4}}, {}),
    (("coalesced_reads",), {"burst": 8}, {}),
    (("merged_chunks",), {"tokens": 4}, {}),
]  # fmt: skip
NVML_SHOWS: list[tuple[str, dict[str, Any]]] = [
    ("thermal_throttling", {"reasons": 0x20}),
    ("thermal_throttling", {"reasons": 0x40}),
    ("thermal_throttling", {"reasons": 0x80}),
    ("power_cap", {"reasons": 0x4}),
    ("foreign_process", {"processes": lambda t: [*ours(t), (1, 9000)]}),
    ("energy_mismatch", {"energy_mj": lambda t: 200_000 * t}),
]
CLIENT_SHOWS: list[tuple[str, dict[str, float]]] = [
    ("client_limit", {"limit_tok_s": 100.0}),
    ("client_error", {"ttft_error_p50_ms": 2.0}),
]


def judge(arm: Arm, calibration: Calibration = CALIBRATION, **knobs: Any) -> BlockContext:
    ready = arm.ready()
    return guards.judged(arm.measure(ready, **knobs), ready, calibration)


def test_a_clean_server_fails_no_guard_and_leaves_none_unknown(bf16: Arm) -> None:
    blocks = [judge(bf16) for _ in range(5)]
    for found in blocks:
        assert troubled(found) <= noise(), found.guards
    assert any(troubled(found) <= noise(*STALLED) for found in blocks), "a stall is in one block, a fault in all"
    assert troubled(guards.evaluate_server(bf16.ready())) == set()


@pytest.mark.parametrize(("ids", "rules", "knobs"), SERVER_SHOWS, ids=[f"{i[0]}-{[*r]}" for i, r, _ in SERVER_SHOWS])
def test_a_server_that_misbehaves_is_found_by_its_guard(
    bf16: Arm, ids: tuple[str, ...], rules: dict[str, Any], knobs: dict[str, Any]
) -> None:
    bf16.ready()
    bf16.behave(**rules)
    found = judge(bf16, **knobs)
    bad = {row for row in troubled(found) if row[1] != "unknown"}
    assert of(*ids) <= bad <= of(*ids) | noise(*ids), found.guards
    failing = {i for i in ids if SEVERITY[i] == "fail"}
    assert failing <= set(found.reasons) <= failing | set(TIMING)
    assert all(result.detail for result in found.guards if result.id in ids)


def test_answers_of_another_length_are_named_as_the_cause(bf16: Arm) -> None:
    bf16.ready()
    bf16.behave(short=2)
    found = judge(bf16)
    assert set(found.failure_reasons) == {"token_count"}
    assert "token_count" in next(g.detail for g in found.guards if g.id == "failed_requests")


@pytest.mark.parametrize(("guard", "figures"), NVML_SHOWS, ids=[f"{g}-{[*f]}" for g, f in NVML_SHOWS])
def test_a_card_in_trouble_is_found_by_its_guard(bf16: Arm, card: FakeGpu, guard: str, figures: dict[str, Any]) -> None:
    bf16.ready()
    for name, value in figures.items():
        setattr(card, name, value)
    assert of(guard) <= troubled(judge(bf16)) <= of(guard) | noise(guard)


@pytest.mark.parametrize(("guard", "figures"), CLIENT_SHOWS, ids=[g for g, _ in CLIENT_SHOWS])
def test_a_client_that_is_the_limit_by_its_calibration(bf16: Arm, guard: str, figures: dict[str, float]) -> None:
    assert of(guard) <= troubled(judge(bf16, replace(CALIBRATION, **figures))) <= of(guard) | noise(guard)


@contextmanager
def beside(work: Any) -> Iterator[None]:
    """Run `work()` again and again in a thread of the client's process."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def burn() -> None:
    """Use a core without holding the interpreter: several at once get a core's time on a busy machine as well."""
    zlib.compress(bytes(2**24))


def hold_interpreter(seconds: float, free: float) -> None:
    """Stop every Python thread of this process for a while, without using the CPU: PyDLL keeps the interpreter lock."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    time.sleep(free)


def test_a_client_short_of_cpu(bf16: Arm) -> None:
    """In one of a few blocks: what other programs use of the machine, the client cannot."""
    ready = bf16.ready()
    with ExitStack() as burning:
        for _ in range(8):
            burning.enter_context(beside(burn))
        blocks = [guards.judged(bf16.measure(ready, min_seconds=1), ready, CALIBRATION).reasons for _ in range(4)]
    assert any("client_cpu" in failed for failed in blocks), blocks
    for failed in blocks:  # what a starved client does
        assert set(failed) <= {"client_cpu", "client_loop_lag", "concurrency_not_held"}


@pytest.mark.parametrize(
    ("guard", "hold", "free"), [("client_loop_lag", 0.03, 0.005), ("client_loop_lag_tail", 0.05, 0.15)]
)
def test_a_client_that_is_late(bf16: Arm, guard: str, hold: float, free: float) -> None:
    ready = bf16.ready()
    with beside(lambda: hold_interpreter(hold, free)):
        context = bf16.measure(ready)
    assert (
        of(guard) <= troubled(guards.judged(context, ready, CALIBRATION)) <= of(guard, "concurrency_not_held") | noise()
    )


def test_a_server_that_dies_within_the_block_is_no_valid_block(home: Path, card: FakeGpu) -> None:
    arm = Arm(home, "mortal")
    ready = arm.ready()
    leader = processes.pid_of(registry.leader(running("mortal").key))

    def answers() -> float:
        return float(metrics.snapshot(client.metrics_page(ready.url)).requests_succeeded or 0)

    in_the_block = answers() + KNOBS.warmup_requests + 4

    def kill() -> None:
        if processes.until(lambda: answers() >= in_the_block, 60):
            processes.signal_all([leader], 9)

    killer = threading.Thread(target=kill)
    killer.start()
    found = guards.judged(arm.measure(ready, min_seconds=60), ready, CALIBRATION)
    killer.join()
    lane.stop(arm.spec)
    assert found.valid is False
    assert "failed_requests" in found.reasons
    assert {"connect", "disconnected"} & set(found.failure_reasons)


# A server that is not what it should be: guard, changes of its spec or behaviour.
SERVERS: list[tuple[str, dict[str, Any]]] = [
    ("kernel_fallback", {"behaviour": {"kernel": "DequantFallbackLinearKernel"}}),
    ("kernel_fallback", {"claim": FP8, "behaviour": {"say": [NO_FP8]}}),
    ("chat_template", {"behaviour": {"bos": 2}}),
    ("chat_template", {"behaviour": {"template": False}}),
    ("chat_template", {"behaviour": {"template": False, "bos": 1}}),
    ("sampling_defaults", {"behaviour": {"say": [OVERRIDDEN]}}),
]  # fmt: skip


def test_a_clean_quantized_server_fails_no_guard(home: Path, card: FakeGpu) -> None:
    with variant(home) as arm:
        assert troubled(guards.evaluate_server(arm.ready())) == set()


@pytest.mark.parametrize(("guard", "changes"), SERVERS, ids=[f"{g}-{next(iter(c['behaviour']))}" for g, c in SERVERS])
def test_a_server_that_is_not_as_it_should_be(home: Path, card: FakeGpu, guard: str, changes: dict[str, Any]) -> None:
    with variant(home, **changes) as arm:
        assert troubled(guards.evaluate_server(arm.ready())) == of(guard)


@pytest.mark.parametrize("logprobs", ["nan", "null"])
def test_a_model_that_computes_nan_fails_every_block(home: Path, card: FakeGpu, logprobs: str) -> None:
    with variant(home, behaviour={"logprobs": logprobs}) as arm:
        assert of("nan_logits") <= troubled(judge(arm)) <= of("nan_logits") | noise()


def test_speculative_decoding_in_the_settings_fails_every_block(home: Path, card: FakeGpu) -> None:
    with variant(home, behaviour={"engine": {"speculative_config": "SpeculativeConfig(method='ngram')"}}) as arm:
        assert of("speculative") <= troubled(judge(arm)) <= of("speculative") | noise()


def test_not_quantized_is_refused_at_the_start_and_not_proven_at_an_endpoint(home: Path, bf16: Arm) -> None:
    with (
        variant(home, behaviour={"unquantized": True}) as arm,
        pytest.raises(QuantbenchError, match="not what the config"),
    ):
        arm.ready()
    served = bf16.ready()
    claim = {"quantization": "awq", "bits": 4.0}
    foreign = changed(bf16.spec, model="far", endpoint=served.url, claimed=claim)
    with lane.lease(foreign):
        found = guards.evaluate_server(ready_facts.of_endpoint(foreign))
    assert guards.failed(found) == []
    assert ("not_quantized", "unknown") in troubled(found)


# A variant that differs in more than its quantization: guard, changes of its spec or behaviour.
PAIRS: list[tuple[str, dict[str, Any]]] = [
    ("execution_mode", {"enforce_eager": False}),
    ("kv_cache_dtype", {"behaviour": {"engine": {"kv_cache_dtype": "fp8"}}}),
    ("kv_cache_dtype", {"behaviour": {"cache_dtype": "fp8_e4m3"}}),
    ("dtype", {"dtype": "float16"}),
    ("max_model_len", {"max_model_len": 2048}),
    ("prefix_caching", {"prefix_caching": True}),
    ("attention_backend", {"behaviour": {"attention": "FLASHINFER"}}),
    ("versions", {"behaviour": {"version": "0.33.0"}}),
    ("memory_breakdown", {"behaviour": {"weights_gib": 0.5}}),
]


@pytest.fixture(scope="module")
def arm_a(home: Path, baseline: Arm) -> Measured:
    """Ready record and one judged-free block of the baseline, for all comparisons."""
    patch = pytest.MonkeyPatch()
    patch.setattr(gpu, "pynvml", LiveNvml([FakeGpu(processes=ours, energy_mj=lambda t: 300_000 * t)]))
    try:
        baseline.behave()
        ready = baseline.ready()
        return ready, [baseline.measure(ready)]
    finally:
        patch.undo()


UNKNOWN_OF_ONE = {("not_interleaved", "unknown"), ("drift", "unknown")}
"""One block of each arm tells no order and no trend."""


def compare(arm_a: Measured, arm: Arm, **asked: Any) -> set[tuple[str, str]]:
    ready = arm.ready()
    facts = (arm_a[0], ready, arm_a[1], [arm.measure(ready, **asked)])
    found = troubled(guards.evaluate_pair(*facts))
    refused = guards.comparison_failures(*facts)
    assert set(refused) == {guard for guard, status in found if status == "fail"}
    return found


def test_a_clean_pair_fails_no_guard(home: Path, card: FakeGpu, arm_a: Measured) -> None:
    with variant(home) as arm:
        assert compare(arm_a, arm) == UNKNOWN_OF_ONE


@pytest.mark.parametrize(("guard", "changes"), PAIRS, ids=[f"{g}-{next(iter(c))}" for g, c in PAIRS])
def test_a_variant_that_differs_in_more_than_its_quantization(
    home: Path, card: FakeGpu, arm_a: Measured, guard: str, changes: dict[str, Any]
) -> None:
    with variant(home, **changes) as arm:
        assert compare(arm_a, arm) == of(guard) | UNKNOWN_OF_ONE


def test_another_tokenizer_and_another_template(home: Path, card: FakeGpu, arm_a: Measured) -> None:
    with variant(home, behaviour={"salt": 7}) as arm:
        assert compare(arm_a, arm) == of("tokenizer", "template_differs") | UNKNOWN_OF_ONE
        arm.static |= {"salt": 0, "bos": 1}
        arm.behave()
        lane.stop(arm.spec)
        ready = arm.ready()  # a begin-of-text token changes plain prompts as well
        assert {"tokenizer", "template_differs"} == set(
            guards.failed(guards.evaluate_pair(arm_a[0], ready, arm_a[1], []))
        )


def test_other_prompts_and_other_clocks(home: Path, card: FakeGpu, arm_a: Measured) -> None:
    with variant(home) as arm:
        assert compare(arm_a, arm, prompts="longer.jsonl") == of("prompt_length") | UNKNOWN_OF_ONE
        card.sm_mhz = 1500
        assert compare(arm_a, arm) == of("clocks_differ") | UNKNOWN_OF_ONE


def test_order_change_of_configuration_and_restart_between_blocks(home: Path, bf16: Arm) -> None:
    with variant(home) as arm:
        ready_a, ready_b = bf16.ready(), arm.ready()
        arm.blocks = bf16.blocks
        a1, b1, b2, a2 = (x.measure(r) for x, r in ((bf16, ready_a), (arm, ready_b), (arm, ready_b), (bf16, ready_a)))
        assert troubled(guards.evaluate_pair(ready_a, ready_b, [a1, a2], [b1, b2])) == {("drift", "unknown")}
        arm.blocks -= 2
        one_arm = [arm.measure(ready_b) for _ in range(2)]
        found = guards.evaluate_pair(ready_a, ready_b, [a1, a2], one_arm)
        assert troubled(found) == of("not_interleaved") | {("drift", "unknown")}
        arm.behave(fingerprint="fake-2")
        drifted = arm.measure(ready_b)
        found = guards.evaluate_pair(ready_a, ready_b, [a1, a2], [b1, drifted])
        assert guards.failed(found) == ["fingerprint_drift"]
        arm.behave()
        lane.stop(arm.spec)
        again = arm.measure(arm.ready())
        found = guards.evaluate_pair(ready_a, ready_b, [a1], [b1, again])
        assert troubled(found) - UNKNOWN_OF_ONE == of("server_changed")


def test_a_machine_that_gets_slower_is_drift(bf16: Arm, arm_a: Measured) -> None:
    ready, contexts = bf16.ready(), []
    for slower in range(5):
        bf16.behave(token_s=TOKEN_S * 1.4**slower)
        contexts.append(bf16.measure(ready))
    found = guards.evaluate_pair(ready, ready, contexts, arm_a[1])
    assert ("drift", "warn") in troubled(found)


def test_memory_that_does_not_come_back_fails_the_run(home: Path, card: FakeGpu) -> None:
    sessions = {}
    for name, left in (("tidy", 520), ("leaky", 9000)):
        arm = Arm(home, name, mode="restart")
        card.used_mib = 520
        arm.ready()
        card.used_mib = left
        lane.stop(arm.spec)
        sessions[name] = server.session_record(arm.spec)
    card.used_mib = 520
    assert troubled(guards.evaluate_run({"tidy": sessions["tidy"]})) == set()
    assert troubled(guards.evaluate_run(sessions)) == of("memory_returned")


def test_another_card_under_the_same_results_fails_the_comparison(home: Path, card: FakeGpu, arm_a: Measured) -> None:
    with variant(home) as arm:
        same = arm.ready()
        card.name = "NVIDIA H200"
        lane.stop(arm.spec)
        other = arm.ready()
        block = arm.measure(other)
    clean = guards.evaluate_pair(arm_a[0], same, arm_a[1], [])
    assert ("hardware", "fail") not in troubled(clean)
    assert ("hardware", "fail") in troubled(guards.evaluate_pair(arm_a[0], other, arm_a[1], []))
    assert ("hardware", "fail") in troubled(guards.evaluate_pair(arm_a[0], same, arm_a[1], [block]))


ONLY_BY_FACTS = {
    "answer_length": "every capacity request asks for an exact length, so an answer of another length is a failure, "
    "and its block is invalid before it is compared (output_length, failed_requests)",
}
"""Guards that no server can trouble over the whole path; tests/unit/judge/test_guards.py plants them in facts."""

ELSEWHERE = {
    "client_cpu", "client_loop_lag", "client_loop_lag_tail", "not_quantized", "tokenizer", "template_differs",
    "prompt_length", "clocks_differ", "fingerprint_drift", "server_changed", "not_interleaved", "drift",
    "memory_returned", "hardware",
}  # fmt: skip
"""Planted above in tests of their own."""


def test_no_guard_is_forgotten() -> None:
    planted = {guard for ids, _, _ in SERVER_SHOWS for guard in ids} | ELSEWHERE
    planted |= {guard for guard, _ in (*NVML_SHOWS, *CLIENT_SHOWS, *SERVERS, *PAIRS)}
    assert planted.isdisjoint(ONLY_BY_FACTS)
    assert planted | set(ONLY_BY_FACTS) == {guard.id for guard in guards.GUARDS}
