"""What `quantbench inspect` prints for a person: one block of short, aligned lines per model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from quantbench.engines.vllm.inspection import Fit, Inspection, Logged
from quantbench.engines.vllm.kernels import SOURCE
from quantbench.observe.bound import CONTEXT, Expected
from quantbench.visible import visible
from quantbench.wording import integer, number

_BASIS: Final = {
    "headers": "counted from the headers of its files",
    "config": "counted from its config.json, not from files of weights",
    "shape": "counted from its published shape",
}
_WIDTH: Final = 13


def text(found: Inspection) -> str:
    """All that was found, without a line's end."""
    name = found.source if found.model == found.source else f"{found.model}: {found.source}"
    return visible(
        "\n".join([name, *_about(found), *_parts(found), *_card(found), *_logged(found.log), *_warned(found)])
    )


def _line(label: str, said: str) -> str:
    return f"  {label:<{_WIDTH}}{said}"


def _about(found: Inspection) -> Iterator[str]:
    yield _line("where", f"{found.where} ({_BASIS[found.basis]})")
    if (claim := found.claim) is None:
        yield _line("claims", "no quantization")
        return
    label = "" if claim.label == claim.method else f", {claim.label}"
    bits = "" if claim.bits is None else f", {number(claim.bits)} bits a weight with scales"
    when = ", made while loading" if claim.online else ""
    yield _line("claims", f"{claim.method}{label}{bits}{when} ({claim.source})")


def _parts(found: Inspection) -> Iterator[str]:
    if not found.parts:
        return
    yield _line("holds", f"{'10⁶ weights':>11}  {'bits':>5}  {'GiB':>6}")
    for part in found.parts:
        yield _row(part.name, part.weights, number(part.bits), part.gib, part.scheme)
    yield _row("total", sum(part.weights for part in found.parts), "", found.weights_gib, "")


def _row(name: str, weights: float, bits: str, gib: float | None, scheme: str) -> str:
    return _line(f"  {name}", f"{number(weights / 1e6):>11}  {bits:>5}  {_gib(gib):>6}  {scheme}").rstrip()


def _gib(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _card(found: Inspection) -> Iterator[str]:
    if found.kv_bytes_per_token is not None:
        window = f" (layers with a window keep the last {integer(found.kv_window)})" if found.kv_window else ""
        yield _line("KV cache", f"{number(found.kv_bytes_per_token / 1024)} KiB a token{window}")
    if (gpu := found.gpu) is None:
        yield _line("on a GPU", "none is here and none is named: --gpu NAME or --vram GIB")
        return
    capability = "" if gpu.capability is None else f", compute capability {gpu.capability // 10}.{gpu.capability % 10}"
    bandwidth = "" if gpu.bandwidth_gbs is None else f", {integer(gpu.bandwidth_gbs)} GB/s"
    times = f"{found.gpus} × " if found.gpus > 1 else ""
    yield _line("on", f"{times}{gpu.name}: {gpu.usable_gib:.1f} GiB for CUDA{capability}{bandwidth}")
    if found.fit:
        yield from _fit(found.fit, found.share, gpu.usable_gib)
    for kernel in found.kernels:
        yield _line("  kernels", f"{kernel.label}: {kernel.outcome}; {kernel.words} ({SOURCE})")
    if not found.kernels:
        yield _line("  kernels", "not known: its compute capability is not (--gpu NAME)")
    if found.decode:
        yield _line("  decode", _decode(found.decode))


def _decode(decode: Sequence[Expected]) -> str:
    """ "will be bound by host, 0.67 ms a step at least (at 1 in flight) to 0.9 (at 64)"."""
    words = []
    for limit, some in groupby(decode, key=lambda entry: entry.bound):
        first, *_, last = [*(group := list(some)), group[-1]]
        to = "" if first is last else f" to {number(last.floor_ms)} (at {last.concurrency})"
        words.append(f"{limit}, {number(first.floor_ms)} ms a step at least (at {first.concurrency} in flight){to}")
    return f"will be bound by {'; '.join(words)}; with {integer(CONTEXT)} tokens a request"


def _fit(fit: Fit, share: float, usable: float) -> Iterator[str]:
    reserve = fit.activations_gib + fit.graphs_gib + fit.outside_gib
    of_share = f"{share:g} × {usable:.1f} = " if abs(share * usable - fit.budget_gib) < 0.01 else ""
    said = f"{of_share}{fit.budget_gib:.1f} GiB: {fit.weights_gib:.1f} weights, {reserve:.1f} reserve"
    yield _line("  needs", f"{said} (activations, graphs), {max(0.0, fit.kv_gib):.1f} left for KV")
    if fit.concurrency is not None and fit.kv_gib > 0:
        tokens = f"{integer(fit.kv_tokens)} tokens of KV"
        yield _line("  fits", f"{number(fit.concurrency)} requests of {integer(fit.length)} tokens ({tokens})")


def _logged(log: Logged | None) -> Iterator[str]:
    if log is None:
        return
    version = f"vLLM {log.version}" if log.version else "of a vLLM that does not say its version"
    yield _line("log", version + ("" if log.started else "; its server did not get ready"))
    if log.failure:
        yield _line("  failed", log.failure)
        yield _line("  remedy", log.failure_remedy or "")
    tokens = "" if log.kv_tokens is None else f" ({integer(log.kv_tokens)} tokens)"
    kv = "" if log.kv_gib is None else f", KV cache {number(log.kv_gib)} GiB{tokens}"
    if log.weights_gib is not None or kv:
        yield _line("  memory", f"weights {_gib(log.weights_gib)} GiB{kv}")
    for kernel in log.kernels:
        yield _line("  kernel", kernel)
    yield _line("  verdict", f"{log.outcome}: what runs is {log.label}")
    yield from _sentences("  evidence", log.sentences)
    if log.remedy:
        yield _line("  remedy", log.remedy)


def _warned(found: Inspection) -> Iterator[str]:
    yield from _sentences("warning", found.warnings)


def _sentences(label: str, sentences: Sequence[str]) -> Iterator[str]:
    for sentence in sentences:
        yield _line(label, sentence)
