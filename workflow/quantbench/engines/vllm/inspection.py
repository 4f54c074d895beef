"""What can be said of a model before a GPU is rented: what it claims and holds, what it needs on a card, which kernels.

With the log of a start, also what vLLM made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from quantbench.config.own_settings import argument
from quantbench.engines.vllm import evidence, kernels, needs
from quantbench.engines.vllm import log as vllm_log
from quantbench.engines.vllm.formats import claim_of
from quantbench.engines.vllm.layers import Tensors, model_of
from quantbench.observe.cards import Card
from quantbench.records.server import ServerSettings, ServerSpec

Basis = Literal["headers", "config", "shape"]
EMPTY_LOG: Final = ""


@dataclass(frozen=True)
class Subject:
    """A model as it is looked at. where: its files. config: config.json; tensors: of the headers, None without them.

    basis: what its sizes are counted from: headers of its files, its config.json alone, or a published shape.
    """

    spec: ServerSpec
    where: str
    basis: Basis
    config: Mapping[str, Any]
    tensors: Tensors | None


@dataclass(frozen=True)
class Gpu:
    """The GPU that is meant. None: not known (memory given by hand)."""

    name: str
    usable_gib: float
    capability: int | None = None
    bandwidth_gbs: float | None = None

    @classmethod
    def of(cls, card: Card) -> Gpu:
        """From the table of cards."""
        return cls(card.name, round(card.usable_gib, 2), card.capability, card.bandwidth_gbs)


@dataclass(frozen=True)
class Claimed:
    """What the checkpoint, or --quantization, says. bits: with scales, of the layers that are quantized."""

    method: str
    label: str
    bits: float | None
    source: str
    online: bool


@dataclass(frozen=True)
class Part:
    """A group of layers."""

    name: str
    weights: float
    bits: float | None
    gib: float | None
    scheme: str


@dataclass(frozen=True)
class Fit:
    """Memory of one GPU in GiB, and what fits in it. concurrency: requests of `length` tokens; None where undecided."""

    budget_gib: float
    weights_gib: float
    activations_gib: float
    graphs_gib: float
    outside_gib: float
    kv_gib: float
    kv_tokens: int | None
    length: int
    concurrency: float | None


@dataclass(frozen=True)
class Logged:
    """What the log of a start says, and the verdict on the claim (`evidence.judge`)."""

    version: str | None
    started: bool
    weights_gib: float | None
    kv_gib: float | None
    kv_tokens: int | None
    kernels: list[str]
    outcome: str
    label: str
    sentences: list[str]
    remedy: str


@dataclass(frozen=True)
class Inspection:
    """All of it; None where it is not known, with the reason among `warnings`."""

    model: str
    source: str
    where: str
    basis: Basis
    family: str | None
    claim: Claimed | None
    parts: list[Part]
    weights_gib: float | None
    kv_bytes_per_token: float | None
    kv_window: int | None
    gpus: int
    gpu: Gpu | None
    share: float
    max_model_len: int
    max_num_seqs: int
    fit: Fit | None
    kernels: list[kernels.Support]
    step_ms: float | None
    log: Logged | None
    warnings: list[str] = field(default_factory=list)


def inspect(subject: Subject, gpu: Gpu | None, length: int | None = None, log: str | None = None) -> Inspection:
    """Look into a model. length: tokens of a request, its answer included (None: max_model_len); log: text of a log."""
    spec, config = subject.spec, subject.config
    settings = spec.settings
    claim = claim_of(config, settings.quantization)
    model = model_of(config, subject.tensors, claim)
    gpus = settings.tensor_parallel_size
    kv = _kv(subject)
    parts = needs.groups(model, config, claim) if model else []
    weights = needs.weights_gib(parts) if parts else None
    fit = _fit(parts, subject, kv, gpu, length or settings.max_model_len) if gpu and parts else None
    step = needs.step_ms(parts, config, gpu.bandwidth_gbs, gpus) if gpu and gpu.bandwidth_gbs and parts else None
    facts = vllm_log.parse(log or EMPTY_LOG)
    verdict = evidence.judge(claim, evidence.ServedModel(facts, config, subject.tensors), model)
    warnings = [
        *(verdict.sentences if log is None and verdict.outcome == "contradicted" else ()),
        *_unknown(parts, weights, kv),
        *_misfit(fit, settings, kv),
        *_too_fast(step, gpu),
    ]
    return Inspection(
        model=spec.model,
        source=spec.source,
        where=subject.where,
        basis=subject.basis,
        family=str(config["model_type"]) if "model_type" in config else None,
        claim=Claimed(claim.method, claim.label, claim.bits, claim.source, claim.online) if claim else None,
        parts=[Part(p.name, p.weights, p.bits, p.gib, p.scheme) for p in parts],
        weights_gib=weights,
        kv_bytes_per_token=None if kv.undecided else kv.per_token,
        kv_window=kv.window or None,
        gpus=gpus,
        gpu=gpu,
        share=settings.gpu_memory_utilization,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        fit=fit,
        kernels=kernels.supports(claim, gpu.capability) if gpu and gpu.capability else [],
        step_ms=step,
        log=None if log is None else _logged(facts, verdict),
        warnings=warnings,
    )


def concurrency(subject: Subject, gpu: Gpu | None, length: int) -> float | None:
    """Requests of `length` tokens that the KV cache will hold at once; None where undecided.

    Where the size of the cache is set (`kv_cache_gib`) it alone counts, and neither weights nor gpu need be known.
    """
    settings = subject.spec.settings
    if settings.kv_cache_gib is None:
        fit = inspect(subject, gpu, length).fit
        return fit.concurrency if fit else None
    kv = _kv(subject)
    return None if kv.undecided else settings.kv_cache_gib * needs.GIB / kv.of_request(length)


def _kv(subject: Subject) -> needs.Kv:
    settings, config = subject.spec.settings, subject.config
    asked = argument(settings.args, "--kv-cache-dtype") or "auto"
    return needs.kv_of(config, needs.value_bytes_of(config, asked), settings.tensor_parallel_size)


def _fit(parts: list[needs.Group], subject: Subject, kv: needs.Kv, gpu: Gpu, length: int) -> Fit | None:
    settings = subject.spec.settings
    asked = argument(settings.args, "--max-num-batched-tokens") or ""
    setting = needs.Setting(
        card_gib=gpu.usable_gib,
        share=settings.gpu_memory_utilization,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        batched_tokens=int(asked) if asked.isdecimal() else None,
        gpus=settings.tensor_parallel_size,
        eager=settings.enforce_eager,
        small_batches="a100" in gpu.name.lower(),
        kv_gib=settings.kv_cache_gib,
    )
    need = needs.need(parts, subject.config, setting, kv)
    if need is None:
        return None
    return Fit(
        budget_gib=need.budget_gib,
        weights_gib=need.weights_gib,
        activations_gib=need.activations_gib,
        graphs_gib=need.graphs_gib,
        outside_gib=need.outside_gib,
        kv_gib=need.kv_gib,
        kv_tokens=need.tokens(length),
        length=length,
        concurrency=need.concurrency(length),
    )


def _unknown(parts: Sequence[needs.Group], weights: float | None, kv: needs.Kv) -> list[str]:
    said = []
    if not parts:
        said.append("weights undecided: neither headers nor a family that this arithmetic knows")
    elif weights is None:
        said.append("weights undecided: its words do not say in how many bits they are")
    if kv.undecided:
        said.append(f"KV cache undecided: {kv.undecided}; a start's log tells (--log)")
    return said


def _misfit(fit: Fit | None, settings: ServerSettings, kv: needs.Kv) -> list[str]:
    if fit is None:
        return []
    if fit.kv_gib <= 0:
        return [f"does not fit: {-fit.kv_gib:.1f} GiB are missing; take a larger card, more of them, or fewer bits"]
    if fit.length > settings.max_model_len:
        return [f"requests of {fit.length} tokens are longer than its max_model_len {settings.max_model_len} allows"]
    longest = kv.of_request(settings.max_model_len) / needs.GIB
    if longest > fit.kv_gib:
        return [
            f"vLLM will not start: one request of max_model_len {settings.max_model_len} needs {longest:.1f} GiB "
            "of KV cache; lower max_model_len"
        ]
    return []


def _too_fast(step: float | None, gpu: Gpu | None) -> list[str]:
    if step is None or gpu is None or step >= needs.HOST_BOUND_MS:
        return []
    return [
        f"too fast a card for this model: its weights are read in {step:.3g} ms, and below {needs.HOST_BOUND_MS:g} ms "
        "the host bounds a decode step, so fewer bits show little; take a larger model to compare speed"
    ]


def _logged(facts: vllm_log.LogFacts, verdict: evidence.Verdict) -> Logged:
    return Logged(
        version=facts.version,
        started=facts.started,
        weights_gib=facts.memory.get("weights_gib"),
        kv_gib=facts.memory.get("kv_cache_gib"),
        kv_tokens=facts.memory.get("kv_cache_tokens"),
        kernels=[f"{kernel.kernel} for {kernel.method}" for kernel in facts.kernels],
        outcome=verdict.outcome,
        label=verdict.label,
        sentences=list(verdict.sentences),
        remedy=verdict.remedy,
    )
