"""What vLLM's log lines look like, version by version: the table behind `log`.

Read in the sources of vLLM 0.26.0, 0.32.0 (CPU build) and 0.33.0 (CUDA build). Every expression is matched from the
*start* of a log message, so text quoted inside another message (a logged prompt, say) is never taken for a fact.
A number must be followed by its unit: a truncated line matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NUMBER = r"(?P<n>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?![\d,])"
SIZE = NUMBER + r" ?(?P<u>[KMGT]i?B)\b"
_UNITS: dict[str, float] = {
    p + s: base**e / 1024**3 for e, p in enumerate("KMGT", 1) for s, base in (("iB", 1024.0), ("B", 1000.0))
}


@dataclass(frozen=True)
class Pattern:
    """One way one field is logged. `read` turns the match into the value; `versions` says where the line was read."""

    section: str
    field: str
    regex: re.Pattern[str]
    looked_for: str
    versions: str
    read: Callable[[re.Match[str]], Any]


def number(text: str) -> float:
    """A number with optional thousands separators: `1,234.5` → 1234.5."""
    return float(text.replace(",", ""))


def _float(m: re.Match[str]) -> float:
    return number(m["n"])


def _int(m: re.Match[str]) -> int:
    return int(number(m["n"]))


def _gib(m: re.Match[str]) -> float:
    return number(m["n"]) * _UNITS[m["u"]]


def _text(m: re.Match[str]) -> str:
    return m["n"]


def _true(m: re.Match[str]) -> bool:
    return True


def _row(
    section: str, field: str, looked_for: str, regex: str, read: Callable[..., Any], versions: str = "0.26-0.33"
) -> Pattern:
    return Pattern(section, field, re.compile(regex), looked_for, versions, read)


_TAG = r"(?:\[[^\]]*\] )?"
_KV = r"(?:[\w/ ,]+ )?KV cache size: "
_ACTUAL = r"Free memory on device .*?Actual usage is .*?"
_TOKENS = "KV cache size: … tokens"
_CONCURRENCY = "Maximum concurrency for … tokens per request: …x"

# The first row of a field that matches anything wins; of the lines it matches, the last counts.
ROWS: tuple[Pattern, ...] = (
    # start-up phases
    _row("startup", "weights_s", "Model loading took … GiB and … seconds",
         rf"Model loading took [\d.,]+ ?[KMGT]i?B(?: memory)? and {NUMBER} seconds", _float, "0.26-0.33 CUDA"),
    _row("startup", "weights_s", "Loading weights took … seconds", rf"Loading weights took {NUMBER} seconds", _float),
    _row("startup", "compile_s", "torch.compile took … s in total",
         rf"{_TAG}torch\.compile took {NUMBER} s in total", _float),
    _row("startup", "compile_s", "init engine … (compilation: … s)",
         rf"init engine \([^)]*\) took [\d.,]+ s \(compilation: {NUMBER} s\b", _float),
    _row("startup", "warmup_s", "Initial profiling/warmup run took … s",
         rf"{_TAG}Initial profiling/warmup run took {NUMBER} s\b", _float),
    _row("startup", "graphs_s", "Graph capturing finished in … secs, took … GiB",
         rf"Graph capturing finished in {NUMBER} secs", _float),
    _row("startup", "engine_init_s", "init engine (profile, create kv cache, warmup model) took … s",
         rf"init engine \([^)]*\) took {NUMBER} (?:s\b|seconds)", _float),
    # memory
    _row("memory", "weights_gib", "Model loading took … GiB",
         rf"Model loading took {SIZE}(?: memory)? and ", _gib,
         "0.26-0.33 CUDA, without 'memory' in 0.26's V2 runner; not on the CPU"),
    _row("memory", "kv_cache_gib", "Available KV cache memory: … GiB",
         rf"Available KV cache memory: {SIZE}", _gib, "0.26-0.33 CUDA"),
    _row("memory", "kv_cache_gib", "reserved … GiB memory for KV Cache",
         rf"Initial free memory [\d.]+ GiB, reserved {SIZE} memory for KV Cache", _gib, "0.26-0.33 CUDA, fixed size"),
    _row("memory", "kv_cache_gib", "set (…/…) GiB for KV cache",
         rf"(?:Explicitly|Auto) set \({NUMBER}/[\d.,]+\) (?P<u>GiB) for KV cache", _gib, "0.26-0.33 CPU"),
    _row("memory", "kv_cache_tokens", _TOKENS, rf"{_KV}{NUMBER} tokens", _int,
         "'GPU KV cache size: N tokens' 0.26; 'GPU|CPU KV cache size: N tokens, Maximum concurrency …' 0.32, 0.33"),
    _row("memory", "max_concurrency", _CONCURRENCY,
         rf"{_KV}[\d.,]+ tokens, Maximum concurrency for [\d.,]+ tokens per request: {NUMBER}x", _float, "0.32, 0.33"),
    _row("memory", "max_concurrency", _CONCURRENCY,
         rf"Maximum concurrency for [\d.,]+ tokens per request: {NUMBER}x", _float, "0.26"),
    _row("memory", "activation_peak_gib", "Actual usage is … GiB for peak activation",
         rf"{_ACTUAL}{SIZE} for peak activation", _gib, "0.26-0.33 CUDA; 0.33 counts the graph estimate in"),
    _row("memory", "cuda_graphs_gib", "Graph capturing finished in … secs, took … GiB",
         rf"Graph capturing finished in [\d.,]+ secs, took {SIZE}", _gib, "0.26-0.33 CUDA"),
    _row("memory", "cuda_graphs_gib", "Actual usage is … GiB for CUDAGraph memory",
         rf"{_ACTUAL}{SIZE} for CUDAGraph memory", _gib, "0.26-0.33 CUDA"),
    _row("memory", "non_torch_gib", "Actual usage is … GiB for non-torch memory",
         rf"{_ACTUAL}{SIZE} for non-torch memory", _gib, "0.26 CUDA"),
    # settings that have a line of their own
    _row("settings", "max_model_len", "Using max model len …", rf"Using max model len {NUMBER}$", _int),
    _row("settings", "attention_backend", "Using … attention backend",
         r"Using (?:AttentionBackendEnum\.)?(?P<n>\w+) attention backend out of potential backends", _text,
         "0.26-0.33 CUDA"),
    _row("settings", "attention_backend", "Using … backend.",
         r"Using (?:AttentionBackendEnum\.)?(?P<n>\w+) backend\.$", _text, "chosen by hand, 0.26-0.33; CPU 0.33"),
    _row("settings", "attention_backend", "(attn): Attention(… backend=…)",
         r" *\(attn\): Attention\(.*\bbackend=(?P<n>\w+)\)$", _text, "module tree, 0.26-0.33"),
    _row("settings", "sampling_defaults_overridden", "Default vLLM sampling parameters have been overridden by …",
         r"Default vLLM sampling parameters have been overridden by ", _true),
    _row("settings", "jit_monitor", "Kernel JIT monitor activated (CUDA, not in eager mode)",
         r"Kernel JIT monitor activated", _true, "0.26-0.32 CUDA; never on the CPU or with --enforce-eager"),
)  # fmt: skip

# `Initializing a V1 LLM engine (v0.32.0) with config: model='…', speculative_config=None, …`, 0.26-0.33
ENGINE_CONFIG = re.compile(r"Initializing an? (?:V\d )?LLM engine \(v(?P<version>[^)]+)\) with config: (?P<config>.*)$")
CONFIG_FIELDS: dict[str, str] = {
    "max_model_len": r"(?<!\w)max_seq_len=(\d+),",
    "dtype": r"(?<!\w)dtype=(?:torch\.)?(\w+),",
    "kv_cache_dtype": r"(?<!\w)kv_cache_dtype=(?:torch\.)?(\w+),",
    "enforce_eager": r"(?<!\w)enforce_eager=(True|False),",
    "prefix_caching": r"(?<!\w)enable_prefix_caching=(True|False),",
    "cuda_graphs": r"'cudagraph_mode': <CUDAGraphMode\.(\w+):",
    "speculative": r"(?<!\w)speculative_config=(None,|\S)",
    "quantization": r"(?<!\w)quantization=([\w.-]+),",
    "tensor_parallel_size": r"(?<!\w)tensor_parallel_size=(\d+),",
}
CONFIG_LOOKED_FOR = "Initializing a V1 LLM engine (v…) with config: … {}"

# A new start of the API server begins here; what is before belongs to an earlier start.
START = re.compile(r"(?:non-default args: |vLLM (?:API )?server version )")
READY = re.compile(r"(?:Starting vLLM (?:API )?server|Application startup complete)")

# Which kernel computes the linear layers: 'Selected %s for %s', 'Using %s for %s' with a kernel's class name.
KERNEL = re.compile(
    r"(?:Selected|Using) (?P<kernel>\w*Kernel\w*) for (?P<method>[\w-]+(?: [\w-]+)*)|"
    r"Using (?P<other>\w+) for (?P<method2>(?:MXFP8|MXFP4|MXFP6|NVFP4) GEMM)"
)
FALLBACK = re.compile(
    r"Your GPU does not have native support for FP\d computation.*Weight-only FP(?P<bits>\d) compression will be used"
)
ONLINE = re.compile(r"Quantizing (?P<n>\d+) layers of types: ")  # 0.32, 0.33

CACHE_WARM = re.compile(rf"{_TAG}Directly load (?:the compiled graph|AOT compilation)")
CACHE_COLD = re.compile(
    rf"{_TAG}(?:Compiling a graph for|Cache the graph|saved AOT compiled|Compiling model again due to)"
)
CACHE_OFF = re.compile(rf"{_TAG}vLLM's torch\.compile cache is disabled|Enforce eager set")

# VLLM_LOG_MODEL_INSPECTION=1 prints the module tree, with `quant=` on every quantized layer (0.26-0.33, CPU and CUDA).
STRUCTURE = re.compile(r"vLLM model structure:")
MODULE = re.compile(
    r"(?P<indent> *)(?:\((?P<name>[^)]*)\): )?(?:(?P<times>\d+) x )?(?P<kind>[A-Z]\w*)\((?P<info>.*?)\)?(?P<open>\(?)$"
)
QUANT = re.compile(r"(?<!\w)quant=(\w+)")
SHAPE = re.compile(r"in(?:put)?_(?:features|size)=(\d+), out(?:put)?_(?:features|size)=(\d+)")

# Incidents in a running server's log: (id, levels of the lines looked at, what to look for); the first match counts.
_ANY = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")
BAD = ("ERROR", "CRITICAL", "FATAL")
INCIDENTS: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = (
    ("oom", (*BAD, "WARNING", ""), re.compile(r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory")),
    ("engine_dead", (*BAD, ""), re.compile(
        r"EngineDeadError|EngineCore encountered a fatal error|"
        r"(?:Engine core proc\w*|Worker proc) .*died unexpectedly")),
    ("nan", _ANY, re.compile(r"NaNs? detected|Corrupted: [1-9]\d* reqs")),
    ("jit", ("WARNING", *BAD), re.compile(r"\S+ .*during inference: ")),
    ("graph_capture", _ANY, re.compile(r"Graph capturing finished|Capturing CUDA graphs")),
    ("preemption", ("WARNING", *BAD), re.compile(r"(?i)\bpreempt")),
    ("error", ("",), re.compile(r"Traceback \(most recent call last\)")),
    ("error", BAD, re.compile(r"(?!\s+(?:File|\^|~|raise\b|return\b|await\b|yield\b|self\.|[\^~]))\S")),
)  # fmt: skip

# Why a start failed: (what to look for, cause, remedy), most specific first; named groups go into the words.
VALIDATION = re.compile(r"ValidationError: (?P<count>\d+) validation errors? for (?P<what>\w+)")
SIGNALLED = re.compile(
    r"(?:Failed core proc\(s\): \{.*?: |died unexpectedly[^\d-]*exit code:? |died with exit code )-(?P<number>\d+)|"
    r"^(?:\S+: (?:line )?\d+: +)?(?:\[\d+\][+-]? +)?(?:\d+ +)?"
    r"(?:Fatal Python error: )?(?P<word>Killed|Segmentation fault|Bus error|Aborted|Illegal instruction|Terminated)"
    r"(?: {2,}| ?\(core dumped\)|$)"
)
OUT_OF_MEMORY = "out of memory"
UNFIT = "if it cannot fit, set the model's fits: false, and the others are compared with each other"
# How far a start was that ran out of the GPU's memory, the furthest first: (a line before it, when, remedy).
STAGES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"^(?:Capturing CUDA graphs|Graph capturing)"),
        " while CUDA graphs were captured",
        "lower gpu_memory_utilization or max_num_seqs, or set enforce_eager: true",
    ),
    (
        re.compile(r"^(?:Available KV cache memory|\w+ KV cache size)"),
        " after the KV cache was sized",
        "lower gpu_memory_utilization or max_num_seqs",
    ),
    (
        re.compile(r"^(?:Model loading took|Loading weights took)"),
        " while the first requests were tried",
        "lower max_num_seqs or max_model_len, or serve a smaller model",
    ),
    (
        re.compile(r"^(?:Starting to load model|Loading safetensors|Initializing a V1 LLM engine)"),
        " while the weights were loaded",
        "free the GPU (nvidia-smi lists its processes), or serve a smaller or further quantized model; " + UNFIT,
    ),
)
_SHIM = "make the vLLM environment again with the set-up command: it adds the metadata of the package `vllm`"
_FREE = "free the GPU (nvidia-smi lists its processes), or lower gpu_memory_utilization"
CAUSES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"PackageNotFoundError: .*\bvllm\b|No package metadata was found for vllm"),
     "the package metadata of vllm is missing in the server's environment", _SHIM),
    (re.compile(r"error: (?P<why>ambiguous option: .+)"), "vLLM refuses an argument: {why}",
     "write its whole name under the model's server arguments in the config"),
    (re.compile(r"(?:error: )?unrecognized arguments?: (?P<flag>.+)"), "vLLM does not know the argument {flag}",
     "correct or remove it under the model's server arguments in the config"),
    (re.compile(r"error: argument (?P<flag>\S+): (?P<why>.+)"), "vLLM refuses the argument {flag} {why}",
     "correct it under the model's server arguments in the config"),
    (re.compile(r"\[Errno 98\]|[Aa]ddress already in use"), "the server's port is in use",
     "choose another port in the config, or stop the process that listens on it"),
    (re.compile(r"Free memory on device (?P<where>\S* ?\([\d.]+/[\d.]+ GiB\)) on startup is less than desired"),
     "less memory is free on device {where} than gpu_memory_utilization asks for", _FREE),
    (re.compile(r"To serve at least one request with the models?'s max seq len \((?P<len>\d+)\)"
                r".*larger than the available(?:.*estimated maximum model length is (?P<fits>\d+))?"),
     "the KV cache is too small for one request of max_model_len {len} tokens",
     "lower max_model_len (the log estimates {fits} tokens fit) or give the KV cache more memory"),
    (re.compile(r"larger than the maximum number of tokens that can be stored in KV cache"),
     "the KV cache is too small for one request of max_model_len tokens",
     "lower max_model_len or give the KV cache more memory"),
    (re.compile(r"No available memory for the cache blocks|leaving none for the KV cache"),
     "no memory is left for the KV cache", f"raise gpu_memory_utilization, or serve a smaller model; {UNFIT}"),
    (re.compile(r"less than requested memory for kv \((?P<size>[^)]+)\)"),
     "the KV cache asks for {size}, more memory than the machine has free",
     "lower --kv-cache-memory-bytes or VLLM_CPU_KVCACHE_SPACE"),
    (re.compile(r"DefaultCPUAllocator: can't allocate|std::bad_alloc|^MemoryError|Cannot allocate memory"),
     "out of host memory", "free host memory (`free -h`), lower kv_cache_gib, or serve a smaller model"),
    (re.compile(r"Error in memory profiling"), "another process gave GPU memory back while vLLM measured it",
     "keep other programs off the GPU, then run the same command again"),
    (re.compile(r"(?:CUDA|HIP) (?:error: )?out of memory|torch\.(?:cuda\.)?OutOfMemoryError|"
                r"CUBLAS_STATUS_ALLOC_FAILED"),
     OUT_OF_MEMORY, "lower max_model_len, max_num_seqs or gpu_memory_utilization, or serve a smaller model"),
    (re.compile(r"max_model_len \((?P<len>\d+)\) is greater than the derived max_model_len \((?P<limit>[^,)]*\d)"),
     "max_model_len {len} is more than the model was made for ({limit})", "lower max_model_len in the config"),
    (re.compile(r"(?:Unknown|Invalid) quantization method:? (?P<name>gguf|bitsandbytes)\b"),
     "this vLLM has no {name} of its own", "install its package beside vLLM, on a GPU (vllm-gguf-plugin since 0.24, "
     "vllm-bnb-plugin since 0.28), or take another checkpoint; models.….unpack: true makes BF16 of a GGUF file"),
    (re.compile(r"(?:Unknown|Invalid) quantization method:? (?P<name>[\w-]+)"),
     "vLLM does not know the quantization {name}",
     "use one that this build lists in its log, or quantize the checkpoint"),
    (re.compile(r"(?P<why>GPTQ group activation ordering \(desc_act=True\) is no longer supported|"
                r"Unsupported quantization config: .+|ModelOpt currently only supports: .+?\]|"
                r"Unsupported (?:ModelOpt \w+ )?quant_algo.+)"),
     "vLLM does not serve these words of the quantization: {why}",
     "quantize the checkpoint anew with settings that it serves (`quantbench inspect` names them)"),
    (re.compile(r"quantization method (?P<name>\w+) (?:is deprecated|has been marked as deprecated)"),
     "vLLM has given up the quantization {name}",
     "add --allow-deprecated-quantization to the model's server.args, or quantize with another method"),
    (re.compile(r"Quantization method specified in the model config \((?P<a>[^)]+)\) does not match .*"
                r"argument \((?P<b>[^)]+)\)"),
     "the checkpoint is quantized with {a}, the config asks for {b}", "remove the quantization argument of this model"),
    (re.compile(r"Sleep mode is not supported on current platform"), "this platform has no sleep mode",
     "remove --enable-sleep-mode, or set the lane's mode to resident or restart"),
    (re.compile(r"(?P<dtype>[Bb]float16|torch\.\w+|[Hh]alf) is (?:only supported|not supported)"),
     "the dtype {dtype} is not supported here", "set another dtype for all models in the config"),
    (re.compile(r"(?P<why>Quantization (?:method \S+|scheme) is not supported for the current GPU\..*?"
                r"Current capability: [\d.]+)", re.IGNORECASE),
     "this card is too old for the model's quantization: {why}",
     "choose a quantization that this card computes (its compute capability is in the message), or another card"),
    (re.compile(r"Int8 not supported on SM"), "this card has no INT8 arithmetic that vLLM uses",
     "choose FP8 (or 4-bit weights) instead of INT8 on this card"),
    (re.compile(r"no kernel image is available for execution on the device"),
     "this build of vLLM or torch has no code for this card",
     "install a build for this card's compute capability (nvidia-smi --query-gpu=compute_cap --format=csv)"),
    (re.compile(r"NVIDIA driver on your system is too old|driver version is insufficient for CUDA runtime|"
                r"provided PTX was compiled with an unsupported toolchain|Error 80[34]: "),
     "the NVIDIA driver is too old for this build of torch", "update it, or install a build for its CUDA version"),
    (re.compile(r"CUDA error: (?P<why>system not yet initialized|CUDA-capable device\(s\) is/are busy or unavailable|"
                r"uncorrectable ECC error encountered)"),
     "the GPU does not work: {why}",
     "look at `nvidia-smi -q` and the kernel's log (dmesg); NVSwitch machines need nvidia-fabricmanager running"),
    (re.compile(r"No CUDA GPUs are available|Failed to infer device type|no NVIDIA driver on your system"),
     "vLLM finds no GPU", "see that nvidia-smi lists one here and that lanes names it, or set platform: cpu"),
    (re.compile(r"(?P<why>NCCL error\b.*|nccl(?:System|Internal|UnhandledCuda|Remote|InvalidUsage)Error.*)"),
     "the GPUs cannot talk to each other: {why}",
     "set NCCL_DEBUG: INFO in the model's server.env and read the log; containers need a large /dev/shm"),
    (re.compile(r"World size \(\d+\) is larger than the number of available GPUs|"
                r"Tensor parallel size .*exceeds available|"
                r"(?P<why>Total number of attention heads \(\d+\) must be divisible by tensor parallel size \(\d+\))"),
     "tensor_parallel_size does not fit these GPUs or this model {why}",
     "set tensor_parallel_size to a number of GPUs that the lane has and that divides the attention heads"),
    (re.compile(r"No space left on device"), "no space is left on a disk or in /dev/shm",
     "make room (`df -h` shows where), then run the same command again"),
    (re.compile(r"insufficient shared memory|unable to (?:open|mmap|allocate) shared memory"),
     "/dev/shm is too small", "give /dev/shm room (`df -h /dev/shm`; a container takes --shm-size or --ipc=host)"),
    (re.compile(r"RevisionNotFoundError|is not a valid git identifier"), "the model has no such revision",
     "correct models.….revision: a branch, tag or commit of that model"),
    (re.compile(r"401 Client Error: Unauthorized|Invalid (?:user token|username or password)"),
     "the hub does not accept this machine's token", "log in again (`hf auth login`, or HF_TOKEN)"),
    (re.compile(r"gated repo|GatedRepoError|(?:Access to model \S+ is restricted)"),
     "the model is gated: its owner has to let you in",
     "accept its terms on the hub, log in (`hf auth login`, or HF_TOKEN), and download it before the run"),
    (re.compile(r"contains custom code which must be executed|requires you to execute the configuration file"),
     "the model brings code of its own, which vLLM does not run unasked",
     "if you trust that code, add --trust-remote-code to the model's server.args"),
    (re.compile(r"(?P<why>The checkpoint you are trying to load has model type .* not recognize this architecture)|"
                r"(?P<arch>Model architectures? \S.* (?:(?:is|are) not supported (?:for now|in-tree|anymore)|"
                r"failed to be inspected|was supported in vLLM until [^,]+))"),
     "vLLM cannot serve this architecture: {why}{arch}",
     "use a vLLM and Transformers that know it (server.command); the log above the message may name a missing library"),
    (re.compile(r"(?:FileNotFoundError|No such file or directory)\b.*?"
                r"(?P<file>[^\s'\"]+\.(?:safetensors|bin|pt|gguf))"),
     "a weight file is missing: {file}", "download or copy the model again, or correct the model's source"),
    (re.compile(r"(?:It looks like the config file at|Unable to load JSON from) '?(?P<file>[^'\s]+)'?"),
     "{file} is no JSON", "download or copy that file again"),
    (re.compile(r"Unrecognized model in (?P<where>\S+?)\.? Should have a `model_type` key"),
     "config.json in {where} does not say which model it is (model_type)",
     "download or copy the model again; an adapter has to be merged into its base first"),
    (re.compile(r"(?P<why>Can't load tokenizer for '[^']+'|Couldn't instantiate the backend tokenizer|"
                r"Tokenizer class \w+ does not exist|data did not match any variant of untagged enum)"),
     "the tokenizer cannot be loaded: {why}",
     "copy tokenizer.json and tokenizer_config.json to the model, name another with --tokenizer in server.args, or use "
     "a vLLM whose Transformers know it"),
    (re.compile(r"supplied chat template string \((?P<file>[^)]+)\) appears path-like, but doesn't exist"),
     "the chat template {file} does not exist", "correct the path in the model's server.args"),
    (re.compile(r"SafetensorError: (?P<why>.+)"), "a weight file is damaged: {why}",
     "download or copy the model again"),
    (re.compile(r"Cannot find any model weights with `(?P<where>[^`]+)`"), "no weight files are in {where}",
     "download or copy the model again, or correct the model's source"),
    (re.compile(r"(?P<why>Following weights were not initialized from checkpoint: .+|"
                r"There is no module or parameter named .+|Attempted to load weight \(.+|"
                r"KeyError: '[\w.]+\.(?:weight\w*|qweight|qzeros|scales|g_idx|bias|lora_[AB]\w*|\w+_scale)'|"
                r"AssertionError: param_data\.shape == loaded_weight\.shape)"),
     "the weight files are not of this architecture: {why}",
     "see that config.json and the weight files are of one model and one quantization"),
    (re.compile(r"(?P<why>Weight \w+_size(?:_per_partition)? = \d+ is not divisible by .+?\d\b|"
                r"The input size is not aligned with the quantized weight shape)"),
     "its layers, divided by the GPUs, do not fit the quantization's groups: {why}",
     "lower tensor_parallel_size, or quantize with a group or block size that divides the layers"),
    (re.compile(r"No \w+ MoE backend supports|Failed to find a kernel that can implement|"
                r"is not supported for quantization method|"
                r"_C::\w*quant\w*\(\)|"
                r"No (?:compressed-tensors )?compatible scheme was found"),
     "this build has no kernel for the model's quantization (method, shape or group size)",
     "quantize with a method, group size and shapes that this platform supports"),
    (re.compile(r"LocalEntryNotFoundError: |Cannot find an appropriate cached snapshot|OfflineModeIsEnabled|"
                r"couldn't connect to '?https?://"),
     "the model is not on this machine and the hub was not asked", "download the model first, or name a local folder"),
    (re.compile(r"HFValidationError: .*: '(?P<id>[^']+)'"), "the model folder {id} does not exist",
     "correct the model's source in the config"),
    (re.compile(r"RepositoryNotFoundError|is not a local folder and is not a valid model identifier|"
                r"Invalid repository ID or local directory|No such file or directory: '?(?P<file>\S*config\.json)"),
     "the model was not found", "correct the model's source in the config"),
    (re.compile(r"(?:Error: |Value error, )Please install (?P<what>[\w.-]+\S*)"),
     "the package {what} is missing in vLLM's environment",
     "install it there, or take a model that does not need it"),
    (re.compile(r"(?P<what>Could not find nvcc|Ninja build failed|Failed to find C compiler)|"
                r"CalledProcessError: Command '?\['?(?:\S*/)?(?P<cc>gcc|cc|clang|g\+\+)\b"),
     "a kernel could not be compiled: {what}{cc}",
     "install a C compiler and Python's headers (where nvcc is missing, the CUDA toolkit), or set enforce_eager: true"),
    (re.compile(r"Expandable segments are not compatible with memory pool"),
     "PYTORCH_CUDA_ALLOC_CONF=expandable_segments excludes sleep mode", "unset it, or set sleep mode off for the lane"),
    (re.compile(r"^OSError: \[Errno 24\] Too many open files"), "too many files are open", "raise `ulimit -n`"),
    (re.compile(r"^PermissionError: .*Permission denied: '?(?P<file>[^'\s]+)"), "{file} may not be read or written",
     "give this user the right to it, or set VLLM_CACHE_ROOT or HF_HOME to a place that it may write"),
    (re.compile(r"(?P<what>(?:ImportError|ModuleNotFoundError): .+|OSError: \S+\.so\S*: cannot open shared object.*)"),
     "a library cannot be loaded: {what}", "make the vLLM environment again with the set-up command"),
)  # fmt: skip

ERROR = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)\b.*|vllm: error: ")
