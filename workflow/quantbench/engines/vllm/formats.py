"""What a checkpoint's own words say of its quantization: which layers, in how many bits, with which scales.

A format is a row of a table here, and a claim is read from wherever vLLM reads it: `quantization_config` of config.json
or of its `text_config`, `compression_config`, hf_quant_config.json, or the argument --quantization.

Bits per weight count the stored scales and zero points: W4A16 in groups of 128 with 16-bit scales is 4.125 bits;
NVFP4 is 4 + 8/16 = 4.5 (its scale per tensor is not counted), MXFP4 is 4 + 8/32 = 4.25 (OCP MX specification 1.0).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final, TypeGuard

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Scheme:
    """How the weights of a layer are stored and computed.

    weight_bits: None where the checkpoint's words do not tell. group: inputs that share a scale; 0 for one scale per
    row or tensor, which is not counted. name: where the field has one, such as NVFP4. floating: FP8 and smaller floats,
    which need other kernels than integers of that width. unpacked: each weight takes a byte, however few bits it has.
    """

    weight_bits: int | None
    activation_bits: int | None = 16
    group: int = 0
    scale_bits: int = 16
    zero_bits: int = 0
    name: str = ""
    floating: bool = False
    unpacked: bool = False

    @property
    def bits(self) -> float | None:
        """Stored bits per weight, scales and zero points included."""
        if self.weight_bits is None:
            return None
        width = max(self.weight_bits, 8) if self.unpacked else self.weight_bits
        return width + ((self.scale_bits + self.zero_bits) / self.group if self.group > 0 else 0.0)

    @property
    def label(self) -> str:
        """Such as W4A16 or NVFP4 W4A4; empty where the bits are not known."""
        if self.weight_bits is None or self.activation_bits is None:
            return self.name
        return f"{self.name} W{self.weight_bits}A{self.activation_bits}".strip()


UNKNOWN: Final = Scheme(None, None)
FP8: Final = Scheme(8, 8, floating=True)
NVFP4: Final = Scheme(4, 4, group=16, scale_bits=8, name="NVFP4", floating=True)
MXFP4: Final = Scheme(4, 16, group=32, scale_bits=8, name="MXFP4", floating=True)
MXFP6: Final = Scheme(6, 16, group=32, scale_bits=8, name="MXFP6", floating=True)
MXFP8: Final = Scheme(8, 8, group=32, scale_bits=8, name="MXFP8", floating=True)

FP8_BLOCKS: Final = replace(FP8, group=128 * 128, scale_bits=32)
FP8_WEIGHTS: Final = replace(FP8, activation_bits=16)

ONLINE: Final[dict[str, Scheme]] = {
    "fp8": FP8, "fp8_per_tensor": FP8, "fp8_per_channel": FP8, "ptpc_fp8": FP8, "fp8_per_block": FP8_BLOCKS,
    "int8_per_channel_weight_only": Scheme(8), "experts_int8": Scheme(8), "mxfp8": MXFP8, "nvfp4_per_token": NVFP4,
    "mxfp4": MXFP4, "bitsandbytes": Scheme(4, 16, group=64, scale_bits=32),
}  # fmt: skip
"""--quantization on an unquantized checkpoint."""
MODELOPT: Final[dict[str, Scheme]] = {
    "FP8": FP8, "FP8_PER_CHANNEL_PER_TOKEN": FP8, "FP8_PB_WO": FP8_BLOCKS, "FP8_PB_REAL": FP8_BLOCKS,
    "FP8_BLOCK_SCALES": FP8_BLOCKS, "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4, "W4A16_NVFP4": replace(NVFP4, activation_bits=16), "MXFP8": MXFP8, "MXFP4": MXFP4,
    "INT8_SQ": Scheme(8, 8), "W4A16_AWQ": Scheme(4, 16, group=128), "W4A8_AWQ": Scheme(4, 8, group=128),
    "W4A8_MXFP4_FP8": replace(MXFP4, activation_bits=8),
}  # fmt: skip
"""`quant_algo` of ModelOpt."""
TORCHAO: Final[dict[str, Scheme]] = {
    "int4weightonly": Scheme(4, 16, group=128, zero_bits=16), "int4wo": Scheme(4, 16, group=128, zero_bits=16),
    "int8weightonly": Scheme(8), "int8wo": Scheme(8), "int8dynamicactivationint8weight": Scheme(8, 8),
    "int8dq": Scheme(8, 8), "int8dynamicactivationint4weight": Scheme(4, 8, group=32), "float8weightonly": FP8_WEIGHTS,
    "float8wo": FP8_WEIGHTS, "float8dynamicactivationfloat8weight": FP8, "float8dq": FP8,
    "float8dynamicactivationint4weight": Scheme(4, 8, group=128),
}  # fmt: skip
"""`quant_type` of TorchAO: the class without `Config`, or the short name; a group size there wins."""
_QUARK: Final = {
    "int4": 4, "uint4": 4, "fp4": 4, "fp6_e3m2": 6, "fp6_e2m3": 6, "int8": 8, "uint8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8,
}  # fmt: skip
SKIPS: Final = (
    "ignore",
    "modules_to_not_convert",
    "ignored_layers",
    "llm_int8_skip_modules",
    "exclude_modules",
    "exclude",
    "modules_to_skip",
    "skip_modules",
    "linear_weights_not_to_quantize",
)
"""Keys under which formats list the layers that stay in 16 bit."""
ALL: Final = "*"
"""Every linear layer but lm_head, which most formats quantize only where they say so."""
EVERY: Final = "re:"
"""Every linear layer, lm_head too."""


@dataclass(frozen=True)
class Rule:
    """Layers whose name fits `pattern` have this scheme; None: they stay in 16 bit."""

    pattern: str
    scheme: Scheme | None


_Index = tuple[dict[str, Scheme | None], dict[str, int], dict[str, set[int]], dict[str, int], list[int]]
"""(layers seen so far; first rule of each plain name; first word of the names → how many words those have; first rule
by `_core` of names that have another; rules whose patterns have to be tried)."""


@dataclass(frozen=True)
class Claim:
    """A quantization that is asserted of a model.

    rules: the first that fits a layer decides; a layer that none fits stays in 16 bit. online: quantized by vLLM while
    loading, so that the checkpoint is in 16 bit. source: where it stands. refused: why vLLM does not serve such words,
    as read in 0.32.0; empty if it does.
    """

    method: str
    rules: tuple[Rule, ...] = ()
    online: bool = False
    source: str = "config.json: quantization_config"
    refused: str = ""

    def scheme(self, layer: str) -> Scheme | None:
        """Of the layer of this name; None for 16 bit."""
        known, by_name, firsts, by_core, others = self._index
        if layer not in known:
            parts, core = layer.split("."), _core(layer).split(".") if by_core else ()
            lengths = ((i, i + n) for i, part in enumerate(parts) for n in firsts.get(part, ()))
            names = (".".join(parts[i:j]) for i, j in lengths)
            starts = (".".join(core[:i]) for i in range(1, len(core) + 1))
            found = [by_name[name] for name in names if name in by_name]
            named = min((*found, *(by_core[start] for start in starts if start in by_core)), default=len(self.rules))
            first = next((i for i in others if i < named and fits(self.rules[i].pattern, layer)), named)
            known[layer] = self.rules[first].scheme if first < len(self.rules) else None
        return known[layer]

    @cached_property
    def _index(self) -> _Index:
        """Of its rules.

        Experts make tens of thousands of layers, and lists of what is skipped have hundreds of names.
        """
        plain = [not rule.pattern.startswith("re:") and "*" not in rule.pattern for rule in self.rules]
        by_name = {rule.pattern: i for i, rule in reversed(list(enumerate(self.rules))) if plain[i]}
        cores = [(_core(name), name) for name in by_name]
        by_core = {core: by_name[name] for core, name in reversed(cores) if core not in ("", name)}
        firsts: dict[str, set[int]] = defaultdict(set)
        for name in by_name:
            firsts[name.partition(".")[0]].add(name.count(".") + 1)
        return {}, by_name, dict(firsts), by_core, [i for i, is_plain in enumerate(plain) if not is_plain]

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """All that its rules have, each once."""
        return tuple(dict.fromkeys(rule.scheme for rule in self.rules if rule.scheme is not None))

    @property
    def weight_bits(self) -> int | None:
        """Of all its layers that are quantized; None where they differ or are not known."""
        widths = {scheme.weight_bits for scheme in self.schemes}
        return widths.pop() if len(widths) == 1 else None

    @property
    def bits(self) -> float | None:
        """Stored bits per weight of the layers that are quantized; None where they differ or are not known."""
        values = {scheme.bits for scheme in self.schemes}
        return values.pop() if len(values) == 1 else None

    @property
    def label(self) -> str:
        """Such as W4A16, or W8A8 + NVFP4; the method where the bits are not known."""
        return " + ".join(dict.fromkeys(filter(None, (scheme.label for scheme in self.schemes)))) or self.method

    @property
    def nothing(self) -> bool:
        """A claim that quantizes no layer: of the KV cache alone, or with empty groups."""
        return not self.schemes


def claim_of(config: Config, quantization: str | None = None) -> Claim | None:
    """What the checkpoint says, else the server's argument --quantization; None for an unquantized model."""
    stated, where = _stated(config)
    if not stated:
        if not quantization or quantization == "none":
            return None
        scheme = ONLINE.get(quantization, UNKNOWN)
        return Claim(quantization, (Rule(ALL, scheme),), online=quantization in ONLINE, source="--quantization")
    method = (
        str(stated.get("quant_method") or ("modelopt" if "quantization" in stated else quantization) or "unknown")
        .lower()
        .replace("compressed_tensors", "compressed-tensors")
    )  # as vLLM's model_arch_config_convertor.py does
    skipped = tuple(Rule(pattern, None) for pattern in _skipped(stated))
    rules = (*skipped, *_rules(method, stated))
    return Claim(method, rules, method == "bitsandbytes", where, _refused(method, stated, quantization))


def _stated(config: Config) -> tuple[Config, str]:
    """The entry that vLLM would take, and where it stands."""
    for holder, place in ((config, "config.json: "), (config.get("text_config"), "config.json: text_config.")):
        for key in ("quantization_config", "compression_config"):
            value = holder.get(key) if isinstance(holder, Mapping) else None
            value = {"quant_method": value} if isinstance(value, str) else value
            if isinstance(value, Mapping) and value:
                return value, str(value.get("_file") or place + key)
    return {}, ""


def _rules(method: str, stated: Config) -> Iterator[Rule]:
    """The rules of a method, without those of skipped layers."""
    if reader := _READERS.get(method):
        return reader(stated)
    if "modelopt" in method:
        return _modelopt(stated)
    if "fp8" in method:
        return iter([Rule(ALL, _fp8(stated))])
    if "gptq" in method or "awq" in method or "bits" in stated:
        return _gptq(stated)
    return iter([Rule(ALL, UNKNOWN)])


def _refused(method: str, stated: Config, asked: str | None) -> str:
    """Words that vLLM 0.32.0 refuses, though it knows their method (gptq_utils.py, auto_gptq.py, modelopt.py)."""
    if method in ("gptq", "gptq_marlin", "auto_gptq") and asked != "humming":
        changes = [c for p, c in _mapping(stated.get("dynamic")).items() if not p.startswith("-:")]
        every = [stated, *({**stated, **_mapping(change)} for change in changes)]
        if any(one.get("desc_act") is True and one.get("group_size") != -1 for one in every):
            return "GPTQ with desc_act: true (act-order) in groups is no longer served"
        if odd := next((one for one in every if one.get("bits", 4) not in (4, 8) or one.get("sym") is False), None):
            return f"GPTQ of {odd.get('bits')} bits{', asymmetric' if odd.get('sym') is False else ''} is not served"
    inner = _mapping(stated.get("quantization")) or stated
    algorithm = str(inner.get("quant_algo") or "").upper()
    if "modelopt" in method and algorithm and algorithm not in _MODELOPT_SERVED:
        return f"ModelOpt's {algorithm} is not served"
    if method == "compressed-tensors" and stated.get("format") == "marlin-24":
        return "2:4 sparse weights (marlin-24) are no longer served"
    return ""


_MODELOPT_SERVED: Final = (
    "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "FP8_BLOCK_SCALES", "NVFP4", "W4A16_NVFP4", "MXFP8",
    "MIXED_PRECISION",
)  # fmt: skip


def _experts(_: Config) -> Iterator[Rule]:
    """gpt-oss: vLLM quantizes the experts only."""
    yield Rule("re:.*experts.*", MXFP4)


def _bitsandbytes(stated: Config) -> Iterator[Rule]:
    """NF4 in blocks of 64 with 32-bit scales, 8-bit ones where they are quantized in turn; or LLM.int8()."""
    scales = 8 if stated.get("bnb_4bit_use_double_quant") else 32
    four = stated.get("load_in_4bit") or stated.get("_load_in_4bit")
    yield Rule(ALL, Scheme(4, 16, group=64, scale_bits=scales) if four else Scheme(8, 8))


def _gguf(stated: Config) -> Iterator[Rule]:
    """Of a file's header: the type of most of its layers, and the mean of all, as blocks of 256 weights have it."""
    bits, kind = stated.get("bits_per_weight"), str(stated.get("type") or "")
    digit = re.search(r"\d", kind)
    if digit and isinstance(bits, float):
        width = int(digit[0])
        yield Rule(ALL, Scheme(width, 16, group=256, scale_bits=round((bits - width) * 256), name=kind))
    else:
        yield Rule(ALL, UNKNOWN)


def _auto_round(stated: Config) -> Iterator[Rule]:
    """`extra_config` has names, the ends of names, or expressions that are searched; names go first."""
    extra = _mapping(stated.get("extra_config"))
    for name in sorted(extra, key=lambda name: any(c in name for c in _OF_EXPRESSIONS)):
        expression = any(c in name for c in _OF_EXPRESSIONS)
        pattern = f"re:.*(?:{name})" if expression else f"re:(?:.*\\.)?{re.escape(name)}$"
        yield Rule(pattern, _grouped({**stated, **_mapping(extra[name])}))
    blocks = stated.get("block_name_to_quantize") or stated.get("to_quant_block_names")
    names = [*_flat(blocks.split(",") if isinstance(blocks, str) else blocks)]
    for name in names:
        yield Rule(f"re:{re.escape(name.strip())}(?:\\.|$)", _grouped(stated))
    if not names:
        yield Rule(ALL, _grouped(stated))


_OF_EXPRESSIONS: Final = r"*+?^$()[]{}|\\"


def _hqq(stated: Config) -> Iterator[Rule]:
    weights = _mapping(_mapping(stated.get("quant_config")).get("weight_quant_params"))
    yield Rule(ALL, _grouped({"bits": weights.get("nbits"), "group_size": weights.get("group_size")}))


def _fp_quant(stated: Config) -> Iterator[Rule]:
    yield Rule(
        ALL, {"mxfp4": replace(MXFP4, activation_bits=4), "nvfp4": NVFP4}.get(str(stated.get("forward_dtype")), UNKNOWN)
    )


def _eetq(_: Config) -> Iterator[Rule]:
    yield Rule(ALL, Scheme(8))


def _mxfp8(_: Config) -> Iterator[Rule]:
    yield Rule(ALL, MXFP8)


def _gptq(stated: Config) -> Iterator[Rule]:
    """GPTQ and AWQ; `dynamic` changes single layers (+:) or leaves them alone (-:)."""
    for pattern, change in _mapping(stated.get("dynamic")).items():
        expression = pattern.removeprefix("+:").removeprefix("-:")
        other = None if pattern.startswith("-:") else _grouped({**stated, **_mapping(change)})
        yield Rule(f"re:{expression}", other)
    scheme = _grouped(stated)
    if stated.get("lm_head"):
        yield Rule("lm_head", scheme)
    inside = [*_flat(stated.get("modules_in_block_to_quantize"))]
    for name in inside:
        yield Rule(name, scheme)
    if not inside:
        yield Rule(ALL, scheme)


def _flat(value: Any) -> Iterator[str]:
    """The texts of lists within lists."""
    for one in value if isinstance(value, list | tuple) else ():
        yield from [one] if isinstance(one, str) else _flat(one)


def _grouped(stated: Config) -> Scheme | None:
    """GPTQ, AWQ, auto-round: integers in groups; 16 bits or more mean that the layer is left alone."""
    bits = next((stated[key] for key in ("bits", "w_bit", "weight_bits") if _is_int(stated.get(key))), None)
    group = next((stated[key] for key in ("group_size", "q_group_size") if _is_int(stated.get(key))), -1)
    kind = str(stated.get("data_type") or "")
    if bits is None or bits >= 16:
        return UNKNOWN if bits is None else None
    stated_bits = stated.get("act_bits")
    activations = stated_bits if _is_int(stated_bits) and stated_bits < 16 else 16
    if "nv_fp" in kind or "mx_fp" in kind:
        named = NVFP4 if "nv_fp" in kind else {4: MXFP4, 6: MXFP6, 8: MXFP8}.get(bits)
        return replace(named, activation_bits=activations) if named else UNKNOWN
    if kind.startswith("fp"):
        return replace(_fp8({"weight_block_size": stated.get("group_size")}), activation_bits=activations)
    return Scheme(bits, activations, max(group, 0), zero_bits=bits)


def _groups(stated: Config) -> Iterator[Rule]:
    """compressed-tensors: each group has its targets; as in vLLM, those that name layers go before kinds of layers."""
    kinds: list[Rule] = []
    for group in _mapping(stated.get("config_groups")).values():
        entry = _mapping(group)
        weights, inputs = _mapping(entry.get("weights")), _mapping(entry.get("input_activations"))
        if not weights:
            continue
        scheme = _float_or_int(weights, inputs, str(entry.get("format") or stated.get("format") or ""))
        targets = entry.get("targets")
        for target in targets if isinstance(targets, list) else ["Linear"]:
            if target == "Linear":
                kinds.append(Rule(EVERY, scheme))
            else:
                yield Rule(str(target), scheme)
    yield from kinds


def _float_or_int(weights: Config, inputs: Config, layout: str) -> Scheme:
    bits, group = weights.get("num_bits"), weights.get("group_size")
    if not _is_int(bits):
        return UNKNOWN
    activations = inputs.get("num_bits", 16) if inputs else 16
    width = activations if _is_int(activations) else None
    group = group if _is_int(group) and group > 0 else 0
    if (floating := weights.get("type") == "float") and group:
        micro = "mx" in layout or "uint8" in str(weights.get("scale_dtype") or "") or (bits in (4, 6) and group == 32)
        named = {4: MXFP4, 6: MXFP6, 8: MXFP8}.get(bits) if micro else NVFP4 if bits == 4 and group == 16 else None
        if named:
            return replace(named, activation_bits=width)
    if group == 0 and (block := weights.get("block_structure")) and isinstance(block, list) and len(block) == 2:
        return Scheme(bits, width, int(block[0]) * int(block[1]), scale_bits=32, floating=floating)
    zeros = 0 if weights.get("symmetric", True) else bits
    return Scheme(bits, width, group, zero_bits=zeros, floating=floating, unpacked=layout in _UNPACKED)


_UNPACKED: Final = ("int-quantized", "float-quantized", "naive-quantized")


def _modelopt(stated: Config) -> Iterator[Rule]:
    inner = _mapping(stated.get("quantization")) or stated
    for pattern in _skipped(inner) if inner is not stated else ():
        yield Rule(pattern, None)
    yield Rule("re:.*(?:vision_tower|vision_model|vit_large_projector)", None)  # vLLM's own rule for this format
    algorithm = str(inner.get("quant_algo") or "").upper()
    for name, entry in _mapping(inner.get("quantized_layers")).items():
        yield Rule(_exact(name), _algorithm(str(_mapping(entry).get("quant_algo") or ""), _mapping(entry)))
    if algorithm and algorithm != "MIXED_PRECISION":
        yield Rule(EVERY, _algorithm(algorithm, inner))


def _algorithm(name: str, stated: Config) -> Scheme:
    scheme, group = MODELOPT.get(name.upper(), UNKNOWN), stated.get("group_size")
    return replace(scheme, group=group) if scheme.group and _is_int(group) and group > 0 else scheme


def _fp8(stated: Config) -> Scheme:
    match stated.get("weight_block_size"):
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return replace(FP8, group=rows * columns, scale_bits=32)
    return FP8


def _torchao(stated: Config) -> Iterator[Rule]:
    """`quant_type`: a name with its arguments, or a configuration; one for each layer in a ModuleFqnToConfig."""
    kind = stated.get("quant_type")
    if isinstance(kind, Mapping):
        kind = kind.get("default", kind)
    if not isinstance(kind, Mapping):
        name, _, size = str(kind or "").partition("-")
        group = int(size) if size.isdigit() else _mapping(stated.get("quant_type_kwargs")).get("group_size")
        yield Rule(ALL, _torchao_scheme(name, group))
        return
    data = _mapping(kind.get("_data"))
    layers = _mapping(data.get("fqn_to_config")) or _mapping(data.get("module_fqn_to_config"))
    for name, entry in layers.items():
        if name != "_default":
            yield Rule(_exact(name), _torchao_entry(entry) if entry else None)
    if not layers:
        yield Rule(ALL, _torchao_entry(kind))
    elif default := layers.get("_default"):
        yield Rule(ALL, _torchao_entry(default))


def _torchao_entry(entry: Any) -> Scheme:
    return _torchao_scheme(str(_mapping(entry).get("_type")), _mapping(_mapping(entry).get("_data")).get("group_size"))


def _torchao_scheme(name: str, group: Any) -> Scheme:
    scheme = TORCHAO.get(name.lower().replace("_", "").removesuffix("config"), UNKNOWN)
    return replace(scheme, group=group) if _is_int(group) and group > 0 else scheme


def _quark(stated: Config) -> Iterator[Rule]:
    def scheme(entry: Config) -> Scheme:
        weights, inputs = _mapping(entry.get("weight")), _mapping(entry.get("input_tensors"))
        width, group = _QUARK.get(str(weights.get("dtype"))), weights.get("group_size")
        activations = _QUARK.get(str(inputs.get("dtype"))) if inputs else 16
        if width == 4 and group == 32 and weights.get("dtype") == "fp4":
            return replace(MXFP4, activation_bits=activations)
        floating = str(weights.get("dtype")).startswith("fp")
        return Scheme(width, activations, group if _is_int(group) and group > 0 else 0, floating=floating)

    for name, entry in _mapping(stated.get("layer_quant_config")).items():
        yield Rule(_exact(name), scheme(_mapping(entry)))
    overall = _mapping(stated.get("global_quant_config"))
    yield Rule(ALL, scheme(overall) if overall else UNKNOWN)


_READERS: Final[dict[str, Callable[[Config], Iterator[Rule]]]] = {
    "compressed-tensors": _groups, "mxfp4": _experts, "gpt_oss_mxfp4": _experts, "torchao": _torchao, "quark": _quark,
    "bitsandbytes": _bitsandbytes, "auto-round": _auto_round, "auto_round": _auto_round, "inc": _auto_round,
    "intel/auto-round": _auto_round, "gguf": _gguf, "hqq": _hqq, "eetq": _eetq, "fp_quant": _fp_quant, "mxfp8": _mxfp8,
}  # fmt: skip
"""Who reads the words of a method, where its name alone tells."""


def _skipped(stated: Config) -> Iterator[str]:
    for key in SKIPS:
        value = stated.get(key)
        if isinstance(value, list):
            yield from (name.removesuffix(".weight") for name in value if isinstance(name, str) and name)


def fits(pattern: str, layer: str) -> bool:
    """Whether a pattern of a checkpoint names a layer: `re:` and a regex, a wildcard, or a part of its dotted name.

    `*` alone is every linear layer but lm_head, which formats quantize only where they say so. Words and tensors of one
    checkpoint may spell the way to a layer differently (`_core`), which vLLM maps when it loads them.
    """
    if pattern == ALL:
        return layer != "lm_head"
    if pattern.startswith("re:"):
        try:
            return any(re.match(pattern[3:], name) for name in _spellings(pattern[3:], layer))
        except re.error:
            return False
    if "*" in pattern:
        wanted = (pattern, f"{pattern}.*", f"*.{pattern}")
        return any(fnmatchcase(name, p) for name in _spellings(pattern, layer) for p in wanted)
    core = _core(pattern)
    return f".{pattern}." in f".{layer}." or (core not in ("", pattern) and f"{_core(layer)}.".startswith(f"{core}."))


_ABOVE: Final = re.compile(r"^(?:(?:model|language_model|text_model)\.)+")
_OF_DECODER: Final = ("layers.", "embed_tokens", "lm_head")


def _core(name: str) -> str:
    """A layer's name without the models that it is in: transformers and vLLM have changed these over time."""
    return _ABOVE.sub("", name)


def _spellings(pattern: str, layer: str) -> Iterator[str]:
    """The name of a layer, and the others that it may go by in a pattern that tells the way to it."""
    yield layer
    core = _core(layer)
    if not pattern.startswith((".*", "*")):
        yield core
        yield f"model.{core}"
    if "language_model" in pattern and core.startswith(_OF_DECODER):
        yield f"language_model.model.{core}"
        yield f"model.language_model.{core}"


def _exact(name: str) -> str:
    return name if name.startswith("re:") or "*" in name else f"re:{re.escape(name)}$"


def _mapping(value: Any) -> Config:
    return value if isinstance(value, Mapping) else {}


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
