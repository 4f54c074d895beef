"""What a checkpoint's own words say of its quantization: which layers, in how many bits, with which scales.

A format is a row of a table here, and a claim is read from wherever vLLM reads it: `quantization_config` of config.json
or of its `text_config`, `compression_config`, hf_quant_config.json, or the argument --quantization.

Bits per weight count the stored scales and zero points: W4A16 in groups of 128 with 16-bit scales is 4.125 bits;
NVFP4 is 4 + 8/16 = 4.5 (its scale per tensor is not counted), MXFP4 is 4 + 8/32 = 4.25 (OCP MX specification 1.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import combinations
from typing import Any, Final, TypeGuard

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Scheme:
    """How the weights of a layer are stored and computed.

    weight_bits: None where the checkpoint's words do not tell. group: inputs that share a scale; 0 for one scale per
    row or tensor, which is not counted. name: where the field has one, such as NVFP4. floating: FP8 and smaller floats,
    which need other kernels than integers of that width.
    """

    weight_bits: int | None
    activation_bits: int | None = 16
    group: int = 0
    scale_bits: int = 16
    zero_bits: int = 0
    name: str = ""
    floating: bool = False

    @property
    def bits(self) -> float | None:
        """Stored bits per weight, scales and zero points included."""
        if self.weight_bits is None:
            return None
        return self.weight_bits + ((self.scale_bits + self.zero_bits) / self.group if self.group > 0 else 0.0)

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
    "FP8": FP8, "FP8_PER_CHANNEL_PER_TOKEN": FP8, "FP8_PB_WO": FP8_BLOCKS, "FP8_PB_REAL": FP8_BLOCKS, "NVFP4": NVFP4,
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
)
"""Keys under which formats list the layers that stay in 16 bit."""
ALL: Final = "*"


@dataclass(frozen=True)
class Rule:
    """Layers whose name fits `pattern` have this scheme; None: they stay in 16 bit."""

    pattern: str
    scheme: Scheme | None


@dataclass(frozen=True)
class Claim:
    """A quantization that is asserted of a model.

    rules: the first that fits a layer decides; a layer that none fits stays in 16 bit. online: quantized by vLLM while
    loading, so that the checkpoint is in 16 bit. source: where it stands.
    """

    method: str
    rules: tuple[Rule, ...] = ()
    online: bool = False
    source: str = "config.json: quantization_config"

    def scheme(self, layer: str) -> Scheme | None:
        """Of the layer of this name; None for 16 bit."""
        known, by_name, others = self._index
        if layer not in known:
            parts = layer.split(".")
            names = (".".join(parts[i:j]) for i, j in combinations(range(len(parts) + 1), 2))
            named = min((by_name[name] for name in names if name in by_name), default=len(self.rules))
            first = next((i for i in others if i < named and fits(self.rules[i].pattern, layer)), named)
            known[layer] = self.rules[first].scheme if first < len(self.rules) else None
        return known[layer]

    @cached_property
    def _index(self) -> tuple[dict[str, Scheme | None], dict[str, int], list[int]]:
        """(layers seen so far, first rule of each plain name, rules whose patterns have to be tried).

        Experts make tens of thousands of layers, and lists of what is skipped have hundreds of names.
        """
        plain = [not rule.pattern.startswith("re:") and "*" not in rule.pattern for rule in self.rules]
        by_name = {rule.pattern: i for i, rule in reversed(list(enumerate(self.rules))) if plain[i]}
        return {}, by_name, [i for i, is_plain in enumerate(plain) if not is_plain]

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
    method = str(
        stated.get("quant_method") or ("modelopt" if "quantization" in stated else quantization) or "unknown"
    ).lower()
    skipped = tuple(Rule(pattern, None) for pattern in _skipped(stated))
    return Claim(method, (*skipped, *_rules(method, stated)), online=method == "bitsandbytes", source=where)


def _stated(config: Config) -> tuple[Config, str]:
    """The entry that vLLM would take, and where it stands."""
    for holder, place in ((config, "config.json: "), (config.get("text_config"), "config.json: text_config.")):
        for key in ("quantization_config", "compression_config"):
            value = holder.get(key) if isinstance(holder, Mapping) else None
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
    for name, extra in _mapping(stated.get("extra_config")).items():
        yield Rule(_exact(name), _grouped({**stated, **_mapping(extra)}))
    yield Rule(ALL, _grouped(stated))


def _gptq(stated: Config) -> Iterator[Rule]:
    """GPTQ and AWQ; `dynamic` changes single layers (+:) or leaves them alone (-:)."""
    for pattern, change in _mapping(stated.get("dynamic")).items():
        expression = pattern.removeprefix("+:").removeprefix("-:")
        other = None if pattern.startswith("-:") else _grouped({**stated, **_mapping(change)})
        yield Rule(f"re:{expression}", other)
    scheme = _grouped(stated)
    if stated.get("lm_head"):
        yield Rule("lm_head", scheme)
    yield Rule(ALL, scheme)


def _grouped(stated: Config) -> Scheme | None:
    """GPTQ, AWQ, auto-round: integers in groups; 16 bits or more mean that the layer is left alone."""
    bits = next((stated[key] for key in ("bits", "w_bit", "weight_bits") if _is_int(stated.get(key))), None)
    group = next((stated[key] for key in ("group_size", "q_group_size") if _is_int(stated.get(key))), -1)
    kind = str(stated.get("data_type") or "")
    if bits is None or bits >= 16:
        return UNKNOWN if bits is None else None
    if "nv_fp" in kind:
        return NVFP4
    if "mx_fp" in kind:
        return {4: MXFP4, 6: MXFP6, 8: MXFP8}.get(bits, UNKNOWN)
    activations = stated.get("act_bits")
    return Scheme(bits, activations if _is_int(activations) and activations < 16 else 16, max(group, 0), zero_bits=bits)


def _groups(stated: Config) -> Iterator[Rule]:
    """compressed-tensors: each group has its targets."""
    for group in _mapping(stated.get("config_groups")).values():
        entry = _mapping(group)
        weights, inputs = _mapping(entry.get("weights")), _mapping(entry.get("input_activations"))
        if not weights:
            continue
        scheme = _float_or_int(weights, inputs, str(entry.get("format") or stated.get("format") or ""))
        targets = entry.get("targets")
        for target in targets if isinstance(targets, list) else ["Linear"]:
            yield Rule(ALL if target == "Linear" else str(target), scheme)


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
    return Scheme(bits, width, group, zero_bits=0 if weights.get("symmetric", True) else bits, floating=floating)


def _modelopt(stated: Config) -> Iterator[Rule]:
    inner = _mapping(stated.get("quantization")) or stated
    for pattern in _skipped(inner) if inner is not stated else ():
        yield Rule(pattern, None)
    algorithm = str(inner.get("quant_algo") or "").upper()
    for name, entry in _mapping(inner.get("quantized_layers")).items():
        yield Rule(_exact(name), _algorithm(str(_mapping(entry).get("quant_algo") or ""), _mapping(entry)))
    if algorithm and algorithm != "MIXED_PRECISION":
        yield Rule(ALL, _algorithm(algorithm, inner))


def _algorithm(name: str, stated: Config) -> Scheme:
    scheme, group = MODELOPT.get(name.upper(), UNKNOWN), stated.get("group_size")
    return replace(scheme, group=group) if scheme.group and _is_int(group) and group > 0 else scheme


def _fp8(stated: Config) -> Scheme:
    match stated.get("weight_block_size"):
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return replace(FP8, group=rows * columns, scale_bits=32)
    return FP8


def _torchao(stated: Config) -> Iterator[Rule]:
    yield Rule(ALL, _torchao_scheme(stated))


def _torchao_scheme(stated: Config) -> Scheme:
    kind = stated.get("quant_type")
    if isinstance(kind, Mapping):
        kind = kind.get("default", kind)
    if isinstance(kind, Mapping):
        name, data = str(kind.get("_type") or ""), _mapping(kind.get("_data"))
        scheme = TORCHAO.get(name.lower().removesuffix("config"), UNKNOWN)
        group = data.get("group_size")
    else:
        name, _, size = str(kind or "").partition("-")
        scheme, group = TORCHAO.get(name.lower(), UNKNOWN), int(size) if size.isdigit() else None
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
    "intel/auto-round": _auto_round, "gguf": _gguf,
}  # fmt: skip
"""Who reads the words of a method, where its name alone tells."""


def _skipped(stated: Config) -> Iterator[str]:
    for key in SKIPS:
        value = stated.get(key)
        if isinstance(value, list):
            yield from map(str, value)


def fits(pattern: str, layer: str) -> bool:
    """Whether a pattern of a checkpoint names a layer: `re:` and a regex, a wildcard, or a part of its dotted name.

    `*` alone is every linear layer but lm_head, which formats quantize only where they say so.
    """
    if pattern == ALL:
        return layer != "lm_head"
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], layer) is not None
        except re.error:
            return False
    if "*" in pattern:
        return any(fnmatchcase(layer, p) for p in (pattern, f"{pattern}.*", f"*.{pattern}"))
    return f".{pattern}." in f".{layer}."


def _exact(name: str) -> str:
    return name if name.startswith("re:") or "*" in name else f"re:{re.escape(name)}$"


def _mapping(value: Any) -> Config:
    return value if isinstance(value, Mapping) else {}


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
