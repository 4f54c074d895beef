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
import signal
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
from quantbench.engines.vllm import installed
from quantbench.errors import QuantbenchError
from quantbench.judge import guards
from quantbench.observe import gpu
from quantbench.records.block import BlockContext, Calibration, GuardResult
from quantbench.records.plan import BASELINE, ArmPlan
from quantbench.records.server import Ready
from quantbench.serving import lane, memory, processes, registry, server
from quantbench.serving import ready as ready_facts
from servers import behave, changed, gpu_spec, killed_in_a_block, measured, own_home, running, started, write_prompts

pytestmark = [pytest.mark.timeout(300), pytest.mark.alone, pytest.mark.flaky(reruns=3, only_rerun="AssertionError")]
TOKEN_S = 0.002
Measured = tuple[Ready, list[BlockContext]]
SEVERITY = {guard.id: guard.severity for guard in guards.GUARDS}
CALIBRATION = Calibration(concurrency=2, limit_tok_s=50_000.0, ttft_error_p50_ms=0.05)
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
    "client_loop_lag_tail", "client_loop_lag", "coalesced_reads", "energy_mismatch", "client_error", "stalled",
    "hiccup", "client_stalled", *STALLED,
)  # fmt: skip
"""Guards of timing: on a busy machine, which stalls any process for a second, they may rightly speak up as well."""
Troubles = set[tuple[str, str]]
"""(guard, status) of all that is not ok."""


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
        return started(self.spec)

    def measure(self, ready: Ready, prompts: str = "prompts", **knobs: Any) -> BlockContext:
        """The context of one more block, not judged."""
        self.blocks += 1
        return measured(self.spec, ready, prompts, self.blocks, **{"timeout_s": 10.0, **knobs})[1]

    def judge(self, calibration: Calibration = CALIBRATION, **knobs: Any) -> BlockContext:
        ready = self.ready()
        return guards.judged(self.measure(ready, **knobs), ready, calibration)


def troubled(judged: BlockContext | list[GuardResult]) -> Troubles:
    results = judged.guards if isinstance(judged, BlockContext) else judged
    return {(result.id, result.status) for result in results if result.status != "ok"}


def of(*ids: str) -> Troubles:
    return {(guard, SEVERITY[guard]) for guard in ids}


NOISE = of(*TIMING)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An own state folder, working folder, NVML and vLLM environment; nothing may be left behind."""
    versions = {"vllm": "0.32.0", "torch": "2.13.0", "python": "3.11.0"}
    with pytest.MonkeyPatch.context() as patch, own_home(tmp_path_factory.mktemp("faults"), patch) as folder:
        patch.setattr(installed, "_versions", lambda interpreter: versions)
        patch.setattr(memory, "FREED_S", 0.1)
        for name, words in (("prompts", 12), ("longer", 24)):
            write_prompts(name, (f"{number} " + "word " * words for number in range(8)))
        yield folder


def ours(_: float) -> list[tuple[int, int]]:
    """What NVML lists of our own servers."""
    return [(pid, 500) for state in registry.servers() for pid in registry.members(state)]


def healthy(patch: pytest.MonkeyPatch) -> FakeGpu:
    """Put one GPU in place that has no trouble."""
    card = FakeGpu(processes=ours, energy_mj=lambda t: 300_000 * t)
    patch.setattr(gpu, "pynvml", LiveNvml([card]))
    return card


@pytest.fixture
def card(home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return healthy(monkeypatch)


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


class Fault:
    """What is planted, and the ids of the guards that must see it.

    `rules`: how the server behaves, or else keys of its spec. `card`: what NVML says. `reason`: why requests fail.
    """

    def __init__(
        self, *ids: str, card: Any = (), knobs: Any = (), calibration: Any = (), reason: str = "", **rules: Any
    ) -> None:
        self.ids, self.rules, self.card, self.knobs, self.reason = ids, rules, dict(card), dict(knobs), reason
        self.calibration = replace(CALIBRATION, **dict(calibration))

    def __str__(self) -> str:
        planted = self.rules.get("behaviour", self.rules) | self.card | self.knobs
        return f"{'+'.join(self.ids) or 'clean'}-{'+'.join(planted)}"


IN_A_BLOCK = [
    Fault("failed_requests", stream="truncate", after=4, reason="truncated"),
    Fault("failed_requests", stream="error", after=4, reason="in_band_error"),
    Fault("resent_requests", drop=5),
    Fault("failed_requests", "short_block", stream="die", after=4, reason="disconnected"),
    Fault("short_block", "ramp_share", token_s=0.05, knobs={"min_requests": 0}),
    Fault("ramp_share", slow=[24, 1.5], knobs={"min_seconds": 0.01, "min_requests": 24}),
    Fault("concurrency_not_held", "ramp_share", "short_block", slow=[4, 0.7], knobs=ONE_WAVE),
    Fault("output_length", "failed_requests", "token_count", short=2, reason="token_count"),
    Fault("prefix_cache", grow={"prefix_cache_queries_total": 20, "prefix_cache_hits_total": 16}),
    Fault("jit_compilation", incident=JIT),
    Fault("jit_compilation", incident="Capturing CUDA graphs (decode, FULL)", incident_level="INFO"),
    Fault("nan_logits", grow={"corrupted_requests_total": 1}),
    Fault("nan_logits", incident="NaNs detected in logits"),
    Fault("server_error", incident="EngineCore hit an error", incident_level="ERROR"),
    Fault("server_error", incident="torch.OutOfMemoryError: CUDA out of memory"),
    Fault("server_restart", grow={"process_start_time_seconds": 1}),
    Fault("server_restart", grow={"num_preemptions_total": -1}),
    Fault("config_drift", fingerprint=["fake-1", "fake-1", "fake-1", "fake-2"]),
    Fault("config_drift", fingerprint="fake-2"),
    Fault("token_count", grow={"generation_tokens_total": 3}),
    Fault("preemption", grow={"num_preemptions_total": 1}),
    Fault("queueing", grow={"request_queue_time_seconds_sum": 0.01}),
    Fault("speculative", grow={"spec_decode_num_drafts_total": 4}),
    Fault("coalesced_reads", burst=8),
    Fault("merged_chunks", tokens=4),
    Fault("thermal_throttling", card={"reasons": 0x20}),
    Fault("thermal_throttling", card={"reasons": 0x40}),
    Fault("thermal_throttling", card={"reasons": 0x80}),
    Fault("power_cap", card={"reasons": 0x4}),
    Fault("foreign_process", card={"processes": lambda t: [*ours(t), (1, 9000)]}),
    Fault("energy_mismatch", card={"energy_mj": lambda t: 200_000 * t}),
    Fault("client_limit", calibration={"limit_tok_s": 100.0}),
    Fault("client_error", calibration={"ttft_error_p50_ms": 2.0}),
]
"""A block whose server, card or client misbehaves."""


def test_a_clean_server_fails_no_guard_and_leaves_none_unknown(bf16: Arm) -> None:
    blocks = [bf16.judge() for _ in range(5)]
    for block in blocks:
        assert troubled(block) <= NOISE, block.guards
    assert any(troubled(block) <= NOISE - of(*STALLED) for block in blocks), "a stall is in one block, a fault in all"
    assert troubled(guards.evaluate_server(bf16.ready())) == set()


@pytest.mark.fault(
    "broken streams, resent requests, short answers, cache hits, compilation, NaN, restarts, throttling, neighbours",
    "each is seen by its guard, and by no other",
)
@pytest.mark.parametrize("fault", IN_A_BLOCK, ids=str)
def test_a_fault_within_a_block_is_seen_by_its_guards(bf16: Arm, card: FakeGpu, fault: Fault) -> None:
    bf16.ready()
    bf16.behave(**fault.rules)
    for name, value in fault.card.items():
        setattr(card, name, value)
    block = bf16.judge(fault.calibration, **fault.knobs)
    # A server that misbehaves may leave guards without their facts, a card or a client may not.
    bad = {row for row in troubled(block) if row[1] != "unknown" or not fault.rules}
    assert of(*fault.ids) <= bad <= of(*fault.ids) | NOISE, block.guards
    failing = {guard for guard in fault.ids if SEVERITY[guard] == "fail"}
    assert failing <= set(block.reasons) <= failing | set(TIMING)
    details = {result.id: result.detail for result in block.guards}
    assert all(details[guard] for guard in fault.ids)
    if fault.reason:
        assert set(block.failure_reasons) == {fault.reason}
        assert fault.reason in details["failed_requests"]


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


@pytest.mark.fault("the load client has too little CPU, or is late", "its guards refuse the block")
def test_a_client_short_of_cpu(bf16: Arm) -> None:
    """In one of a few blocks: what other programs use of the machine, the client cannot."""
    ready = bf16.ready()
    with ExitStack() as burning:
        for _ in range(8):
            burning.enter_context(beside(burn))
        blocks = [guards.judged(bf16.measure(ready, min_seconds=1), ready, CALIBRATION).reasons for _ in range(4)]
    assert any("client_cpu" in failed for failed in blocks), blocks
    for failed in blocks:  # what a starved client does
        assert set(failed) <= {"client_cpu", "client_loop_lag", "client_stalled", "stalled", "concurrency_not_held"}


@pytest.mark.parametrize(
    ("guard", "hold", "free"),
    [("client_loop_lag", 0.03, 0.005), ("client_loop_lag_tail", 0.05, 0.15), ("client_stalled", 0.3, 0.05)],
)
def test_a_client_that_is_late(bf16: Arm, guard: str, hold: float, free: float) -> None:
    ready = bf16.ready()
    with beside(lambda: hold_interpreter(hold, free)):
        context = bf16.measure(ready)
    assert (
        of(guard) <= troubled(guards.judged(context, ready, CALIBRATION)) <= of(guard, "concurrency_not_held") | NOISE
    )


@contextmanager
def frozen(ready: Ready, seconds: float) -> Iterator[None]:
    """Stop all processes of a server for a while, once the block that is measured within runs."""
    pids = registry.members(running(ready.model))

    def freeze() -> None:
        time.sleep(0.3)
        processes.signal_all(pids, signal.SIGSTOP)
        time.sleep(seconds)
        processes.signal_all(pids, signal.SIGCONT)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    yield
    freezer.join()


@pytest.mark.fault(
    "A server is frozen (SIGSTOP) for 2 s in the middle of a block",
    "the block is refused (`stalled`) with the length and the second of the silence; all else of it is kept",
)
def test_a_server_that_is_frozen_within_the_block(bf16: Arm) -> None:
    ready = bf16.ready()
    with frozen(ready, 2.0):
        block = guards.judged(bf16.measure(ready, min_seconds=2.6), ready, CALIBRATION)
    assert "stalled" in block.reasons
    assert "client_stalled" not in block.reasons
    assert ("hiccup", "warn") in troubled(block)
    assert block.silences is not None
    assert block.silences[0].s > 1.8
    assert f"no token for {block.silences[0].s:.2f} s" in {r.id: r.detail for r in block.guards}["stalled"]


@pytest.mark.fault("a server dies within a block", "no valid block")
def test_a_server_that_dies_within_the_block_is_no_valid_block(home: Path, card: FakeGpu) -> None:
    arm = Arm(home, "mortal")
    ready = arm.ready()
    with killed_in_a_block(ready):
        block = guards.judged(arm.measure(ready, min_seconds=60), ready, CALIBRATION)
    lane.stop(arm.spec)
    assert block.valid is False
    assert "failed_requests" in block.reasons
    assert {"connect", "disconnected"} & set(block.failure_reasons)


SERVERS = [
    Fault(),
    Fault("kernel_fallback", behaviour={"kernel": "DequantFallbackLinearKernel"}),
    Fault("kernel_fallback", claim=FP8, behaviour={"say": [NO_FP8]}),
    Fault("chat_template", behaviour={"bos": 2}),
    Fault("chat_template", behaviour={"template": False}),
    Fault("chat_template", behaviour={"template": False, "bos": 1}),
    Fault("sampling_defaults", behaviour={"say": [OVERRIDDEN]}),
]
"""A quantized server that is not what it should be."""


@pytest.mark.parametrize("fault", SERVERS, ids=str)
def test_a_server_that_is_not_as_it_should_be(home: Path, card: FakeGpu, fault: Fault) -> None:
    with variant(home, **fault.rules) as arm:
        assert troubled(guards.evaluate_server(arm.ready())) == of(*fault.ids)


@pytest.mark.fault("nothing decides whether a model is quantized", "measured, with a warning that says why")
def test_a_quantization_that_nothing_proves_is_measured_with_a_warning(home: Path, card: FakeGpu) -> None:
    with variant(home, claim={"quant_method": "novel"}, behaviour={"kernel": "", "weights_gib": None}) as arm:
        ready = arm.ready()
    assert ready.quantization.verified is None
    assert ("quantization_not_proven", "warn") in troubled(guards.evaluate_server(ready))


EVERY_BLOCK = [
    Fault("nan_logits", behaviour={"logprobs": "nan"}),
    Fault("nan_logits", behaviour={"logprobs": "null"}),
    Fault("speculative", behaviour={"engine": {"speculative_config": "SpeculativeConfig(method='ngram')"}}),
]
"""A fault of the server that fails each of its blocks."""


@pytest.mark.parametrize("fault", EVERY_BLOCK, ids=str)
def test_a_server_whose_blocks_all_fail(home: Path, card: FakeGpu, fault: Fault) -> None:
    with variant(home, **fault.rules) as arm:
        assert of(*fault.ids) <= troubled(arm.judge()) <= of(*fault.ids) | NOISE


def test_not_quantized_is_refused_at_the_start_and_not_proven_at_an_endpoint(home: Path, bf16: Arm) -> None:
    with (
        variant(home, behaviour={"unquantized": True}) as arm,
        pytest.raises(QuantbenchError, match="not what the config"),
    ):
        arm.ready()
    claim = {"quantization": "awq", "bits": 4.0}
    foreign = changed(bf16.spec, model="far", endpoint=bf16.ready().url, claimed=claim)
    with lane.lease(foreign):
        results = guards.evaluate_server(ready_facts.of_endpoint(foreign))
    assert guards.failed(results) == []
    assert ("not_quantized", "unknown") in troubled(results)


PAIRS = [
    Fault(),
    Fault("execution_mode", enforce_eager=False),
    Fault("kv_cache_dtype", behaviour={"engine": {"kv_cache_dtype": "fp8"}}),
    Fault("kv_cache_dtype", behaviour={"cache_dtype": "fp8_e4m3"}),
    Fault("dtype", dtype="float16"),
    Fault("max_model_len", max_model_len=2048),
    Fault("prefix_caching", prefix_caching=True),
    Fault("attention_backend", behaviour={"attention": "FLASHINFER"}),
    Fault("versions", behaviour={"version": "0.33.0"}),
    Fault("memory_breakdown", behaviour={"weights_gib": 0.5}),
    Fault("tokenizer", "template_differs", behaviour={"salt": 7}),
    Fault("tokenizer", "template_differs", behaviour={"bos": 1}),  # a begin-of-text token changes plain prompts as well
    Fault("prompt_length", knobs={"prompts": "longer"}),
    Fault("clocks_differ", card={"sm_mhz": 1500}),
]
"""A variant that differs in more than its quantization."""


@pytest.fixture(scope="module")
def arm_a(home: Path, baseline: Arm) -> Measured:
    """Ready record and one block of the baseline, not judged, for all comparisons."""
    with pytest.MonkeyPatch.context() as patch:
        healthy(patch)
        baseline.behave()
        ready = baseline.ready()
        return ready, [baseline.measure(ready)]


UNKNOWN_OF_ONE = {("not_interleaved", "unknown"), ("drift", "unknown")}
"""One block of each arm tells no order and no trend."""


@pytest.mark.fault(
    "a variant that differs in more than its quantization: length, cache, backend, version, tokenizer, prompts, clocks",
    "the guard of that difference refuses the comparison or warns",
)
@pytest.mark.parametrize("fault", PAIRS, ids=str)
def test_a_variant_that_differs_in_more_than_its_quantization(
    home: Path, card: FakeGpu, arm_a: Measured, fault: Fault
) -> None:
    for name, value in fault.card.items():
        setattr(card, name, value)
    with variant(home, **fault.rules) as arm:
        ready = arm.ready()
        facts = (arm_a[0], ready, arm_a[1], [arm.measure(ready, **fault.knobs)])
    assert troubled(guards.evaluate_pair(*facts)) == of(*fault.ids) | UNKNOWN_OF_ONE
    assert set(guards.comparison_failures(*facts)) == {guard for guard in fault.ids if SEVERITY[guard] == "fail"}


@pytest.mark.fault(
    "A variant with an FP8 KV cache: declared, not declared, and something declared that is not there",
    "compared and said; refused (`kv_cache_dtype`); a warning (`declared_absent`)",
)
def test_exactly_what_is_declared_may_differ(home: Path, card: FakeGpu, arm_a: Measured) -> None:
    with variant(home, behaviour={"engine": {"kv_cache_dtype": "fp8"}}) as arm:
        ready = arm.ready()
        facts = (arm_a[0], ready, arm_a[1], [arm.measure(ready)], BASELINE)
    for factors, ids in (
        (("weights", "kv_cache"), ()),
        (("weights",), ("kv_cache_dtype",)),
        (("kv_cache",), ("weights",)),
        (("weights", "speculative"), ("kv_cache_dtype", "declared_absent")),
    ):
        found = troubled(guards.evaluate_pair(*facts, ArmPlan(differs_in=factors)))
        assert found == of(*ids) | UNKNOWN_OF_ONE


def test_order_change_of_configuration_and_restart_between_blocks(home: Path, bf16: Arm) -> None:
    with variant(home) as arm:
        ready_a, ready_b = bf16.ready(), arm.ready()
        arm.blocks = bf16.blocks
        a1, b1, b2, a2 = (x.measure(r) for x, r in ((bf16, ready_a), (arm, ready_b), (arm, ready_b), (bf16, ready_a)))
        arm.blocks -= 2
        c1, c2 = arm.measure(ready_b), arm.measure(ready_b)
        arm.behave(fingerprint="fake-2")
        drifted = arm.measure(ready_b)
        arm.behave()
        lane.stop(arm.spec)
        again = arm.measure(arm.ready())

    def compared(*blocks_of_b: BlockContext) -> list[GuardResult]:
        return guards.evaluate_pair(ready_a, ready_b, [a1, a2], list(blocks_of_b))

    assert troubled(compared(b1, b2)) == {("drift", "unknown")}
    assert troubled(compared(c1, c2)) == of("not_interleaved") | {("drift", "unknown")}
    assert guards.failed(compared(b1, drifted)) == ["fingerprint_drift"]
    restarted = guards.evaluate_pair(ready_a, ready_b, [a1], [b1, again])
    assert troubled(restarted) - UNKNOWN_OF_ONE == of("server_changed")


@pytest.mark.fault("the machine gets slower during a run", "drift, in the verdict and in the doubts")
def test_a_machine_that_gets_slower_is_drift(bf16: Arm, arm_a: Measured) -> None:
    ready, contexts = bf16.ready(), []
    for slower in range(5):
        bf16.behave(token_s=TOKEN_S * 1.4**slower)
        contexts.append(bf16.measure(ready))
    assert ("drift", "warn") in troubled(guards.evaluate_pair(ready, ready, contexts, arm_a[1]))


@pytest.mark.fault("a stopped server's memory does not come back", "the run's guard says so")
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


@pytest.mark.fault("another card under the same results", "the comparison is refused")
def test_another_card_under_the_same_results_fails_the_comparison(home: Path, card: FakeGpu, arm_a: Measured) -> None:
    with variant(home) as arm:
        same = arm.ready()
        card.name = "NVIDIA H200"
        lane.stop(arm.spec)
        other = arm.ready()
        block = arm.measure(other)
    for ready, blocks, differs in ((same, [], False), (other, [], True), (same, [block], True)):
        assert (of("hardware") <= troubled(guards.evaluate_pair(arm_a[0], ready, arm_a[1], blocks))) == differs


ONLY_BY_FACTS = {
    "suspended": "a test cannot send the machine to sleep",
    "clock_set": "a test cannot set the machine's clock",
    "host_steal": "no server takes CPU time from the host's virtual machine",
    "foreign_load": "other programs of the host are no server's doing, and would trouble the tests beside",
    "cpu_quota": "a control group's quota is set by whoever runs the container",
    "answer_length": "every capacity request asks for an exact length, so an answer of another length is a failure, "
    "and its block is invalid before it is compared (output_length, failed_requests)",
    "other_configuration": "what a block says it was measured with differs from the plan, not from what a server does: "
    "tests/test_lifecycle.py plants it in kept results",
}
"""Guards that no server can trouble over the whole path; tests/unit/judge/test_guards.py plants them in facts."""

ELSEWHERE = {
    "client_cpu", "client_loop_lag", "client_loop_lag_tail", "client_stalled", "stalled", "hiccup", "not_quantized",
    "quantization_not_proven",
    "fingerprint_drift", "server_changed", "not_interleaved", "drift", "memory_returned", "hardware",
    "weights", "declared_absent",
}  # fmt: skip
"""Planted above in tests of their own."""


def test_no_guard_is_forgotten() -> None:
    planted = {guard for fault in (*IN_A_BLOCK, *SERVERS, *EVERY_BLOCK, *PAIRS) for guard in fault.ids} | ELSEWHERE
    assert planted.isdisjoint(ONLY_BY_FACTS)
    assert planted | set(ONLY_BY_FACTS) == {guard.id for guard in guards.GUARDS}
