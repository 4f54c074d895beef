"""What is compared, where that is more or less than quantized weights: other things too, lossy baselines, stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from quantbench.records.plan import Factor
from quantbench.records.run import Run
from quantbench.records.server import Ready
from quantbench.report.say import Speech

UNPACKED_TO: Final = 16
"""Bits of a weight in the folder that a GGUF file is unpacked to."""


def lines(run: Run, say: Speech) -> list[str]:
    """What did not fit, what had lost bits before it came here, the name of each comparison of more than weights."""
    named_ = (named(run, say, variant) for variant in run.variants)
    return [*unfit(run, say), *unpacked(run, say), *filter(None, named_)]


def unfit(run: Run, say: Speech) -> list[str]:
    """Of each model that does not fit: the arithmetic, and what stands in for it if it is the baseline."""
    return [say(found) for found in (run.decision.left_out if run.decision else ())]


def unpacked(run: Run, say: Speech) -> list[str]:
    """Of each model that was unpacked from fewer bits than it is served with: from what, and what that means."""
    found = {model: ready.unpacked for model, ready in run.ready.items() if ready.unpacked}
    return [
        say(
            "factors.unpacked",
            form="baseline" if model == run.baseline else "variant",
            model=model,
            file=file.file,
            licence=file.licence,
            package=file.package and f"{file.package} {file.version}",
            bits=file.bits,
        )
        for model, file in found.items()
        if (file.bits_per_weight or 0) < UNPACKED_TO
    ]


def named(run: Run, say: Speech, variant: str) -> str:
    """ "W8A8 weights + FP8 KV cache against BF16": what is declared and there; "" where that is the weights alone."""
    own, base = run.ready.get(variant), run.ready.get(run.baseline)
    declared = (*run.plan.arm(run.baseline).differs_in, *run.plan.arm(variant).differs_in)
    if own is None or base is None or {*declared} <= {"weights"}:
        return ""
    parts = [words for factor, part in _PARTS.items() if factor in declared and (words := part(run, say, own, base))]
    return say("factors.compared", parts=" + ".join(parts), variant=variant, baseline=run.baseline)


def _weights(run: Run, say: Speech, own: Ready, base: Ready) -> str:
    return say("factors.weights", label=own.quantization.label or run.label(own.model))


def _kv_cache(run: Run, say: Speech, own: Ready, base: Ready) -> str:
    here, there = own.settings.kv_cache_dtype, base.settings.kv_cache_dtype
    return "" if here == there else say("factors.kv_cache", own=(here or "?").upper(), base=there)


def _speculative(run: Run, say: Speech, own: Ready, base: Ready) -> str:
    here, there = own.settings.speculative, base.settings.speculative
    if here == there:
        return ""
    model = own.model if here else base.model
    return say("factors.speculative", form="variant" if here else "baseline", accepted=_accepted(run, model))


def _accepted(run: Run, model: str) -> float | None:
    """Share of the drafted tokens that the model accepted, over all that was measured; None where it is not told."""
    rows = [row for row in run.capacity if row.model == model]
    drafted, accepted = (
        [row.number(f"server_spec_decode_{name}_tokens") for row in rows] for name in ("draft", "accepted")
    )
    total = sum(value or 0 for value in drafted)
    return sum(value or 0 for value in accepted) / total if total and None not in (*drafted, *accepted) else None


def _gpus(run: Run, say: Speech, own: Ready, base: Ready) -> str:
    here, there = run.plan.arm(own.model).gpus, run.plan.arm(base.model).gpus
    return "" if here == there else say("factors.gpus", own=here, base=there)


def _engine(run: Run, say: Speech, own: Ready, base: Ready) -> str:
    here, there = own.versions, base.versions
    if here.vllm == there.vllm:
        return (
            "" if here.torch == there.torch else say("factors.engine", name="torch", own=here.torch, base=there.torch)
        )
    return say("factors.engine", name="vLLM", own=here.vllm, base=there.vllm)


def _max_model_len(run: Run, say: Speech, own: Ready, base: Ready) -> str:
    here, there = own.settings.max_model_len, base.settings.max_model_len
    return "" if here == there else say("factors.engine", name="max_model_len", own=here, base=there)


_PARTS: Final[Mapping[Factor, Callable[[Run, Speech, Ready, Ready], str]]] = {
    "weights": _weights,
    "kv_cache": _kv_cache,
    "speculative": _speculative,
    "gpus": _gpus,
    "engine": _engine,
    "max_model_len": _max_model_len,
}
