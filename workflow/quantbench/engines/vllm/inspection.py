"""What can be said of a model before a GPU is rented: what it claims and holds, what it needs on a card, which kernels.

With the log of a start, also what vLLM made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from quantbench.config.own_settings import argument
from quantbench.engines.vllm import evidence, kernels, needs
from quantbench.engines.vllm import log as vllm_log
from quantbench.engines.vllm.formats import Claim, claim_of
from quantbench.engines.vllm.layers import Tensors, model_of
from quantbench.engines.vllm.step import step_of
from quantbench.observe import bound
from quantbench.observe.cards import Card
from quantbench.records.server import Peaks, ServerSettings, ServerSpec
from quantbench.wording import listing, number

Basis = Literal["headers", "config", "shape"]
EMPTY_LOG: Final = ""


@dataclass(frozen=True)
class Subject:
    """A model as it is looked at. where: its files. config: config.json; tensors: of the headers, None without them.

    basis: what its sizes are counted from: headers of its files, its config.json alone, or a published shape. loads:
    requests in flight that are meant.
    """

    spec: ServerSpec
    where: str
    basis: Basis
    config: Mapping[str, Any]
    tensors: Tensors | None
    loads: tuple[int, ...] = (1, 16, 64)


@dataclass(frozen=True)
class Gpu:
    """The GPU that is meant. None: not known (memory given by hand)."""

    name: str
    usable_gib: float
    capability: int | None = None
    bandwidth_gbs: float | None = None
    tflops: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, card: Card) -> Gpu:
        """From the table of cards."""
        return cls(card.name, round(card.usable_gib, 2), card.capability, card.bandwidth_gbs, card.tflops)

    def peaks(self, count: int) -> Peaks:
        """Of so many of them together."""
        tflops = {kind: count * peak for kind, peak in self.tflops.items()}
        return Peaks(bandwidth_gbs=self.bandwidth_gbs and count * self.bandwidth_gbs, tflops=tflops)


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
    """What the log of a start says, and the verdict on the claim (`evidence.judge`).

    failure: why the start failed, and what to do about it; None where it did not, or no error is in the log.
    """

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
    failure: str | None = None
    failure_remedy: str | None = None


@dataclass(frozen=True)
class Inspection:
    """All of it; None where it is not known, with the reason among `warnings`.

    step_ms: the least that a decode step of one request takes; decode: that, and what will bound it, by load.
    """

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
    decode: list[bound.Expected]
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
    decode = list(_decode(subject, gpu)) if gpu else []
    facts = vllm_log.parse(log or EMPTY_LOG)
    verdict = evidence.judge(claim, evidence.ServedModel(facts, config, subject.tensors), model)
    warnings = [
        *(verdict.sentences if log is None and verdict.outcome == "contradicted" else ()),
        *_unknown(parts, weights, kv),
        *((f"a GGUF file: {kernels.plugin('gguf')}",) if subject.where.endswith(".gguf") else ()),
        *_misfit(fit, settings, kv),
        *_host_bound(decode, claim),
    ]
    return Inspection(
        model=spec.model,
        source=spec.source,
        where=subject.where,
        basis="config" if subject.basis == "headers" and not (model and model.stored is not None) else subject.basis,
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
        step_ms=next((entry.floor_ms for entry in decode if entry.concurrency == 1), None),
        decode=decode,
        log=None if log is None else _logged(facts, verdict, log),
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


def _decode(subject: Subject, gpu: Gpu) -> Iterator[bound.Expected]:
    """By load, the single request first."""
    step = step_of(subject.spec, subject.config, subject.tensors)
    for load in sorted({1, *subject.loads}) if step else ():
        if step and (found := bound.expected(step, gpu.peaks(subject.spec.settings.tensor_parallel_size), load)):
            yield found


def _host_bound(decode: Sequence[bound.Expected], claim: Claim | None) -> list[str]:
    """A card too fast for the model, at the loads where it is."""
    bound_by_host = [entry for entry in decode if entry.bound == "host"]
    if not bound_by_host:
        return []
    return [host_bound(bound_by_host, everywhere=len(bound_by_host) == len(decode), quantized=claim is not None)]


def host_bound(entries: Sequence[bound.Expected], *, everywhere: bool, quantized: bool) -> str:
    """The warning, for loads that the host will bound (at least one)."""
    where = "" if everywhere else f" at {listing(str(entry.concurrency) for entry in entries)} in flight"
    least = " to ".join(dict.fromkeys(number(ms) for ms in (entries[0].floor_ms, entries[-1].floor_ms)))
    so = "its gain is less than its bits suggest" if quantized else "a quantized model cannot be faster there"
    return (
        f"host-bound{where}: the card is too fast for this model. A step needs at least {least} ms, vLLM's own work "
        f"takes about {bound.HOST_MS:g} ms (an assumption, from runs on an H100 and an H200), so {so}; take a larger "
        "model, or a slower card"
    )


def _logged(facts: vllm_log.LogFacts, verdict: evidence.Verdict, log: str) -> Logged:
    failure = None if facts.started else vllm_log.diagnose(log)
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
        failure=failure.cause if failure else None,
        failure_remedy=failure.remedy if failure else None,
    )
