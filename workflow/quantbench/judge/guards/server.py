"""Guards of a server: is it what its row says? And of the run: did all servers give their memory back?"""

from __future__ import annotations

from collections.abc import Mapping

from quantbench.judge.guards.base import Missing, Seen, Source, guard
from quantbench.records.server import Ready, Session

_FALLBACKS = ("unquantized", "emulat", "dequant", "fallback", "reference", "naive")
_PLAIN = ("", "none", "bf16", "bfloat16", "fp16", "float16")


@guard("server", "fail", title="Not what it claims to be",
       detection="ready.json: quantization.verified is not true",
       remedy="Read quantization.evidence; correct the model's quantization, bits or quantize_flag.")  # fmt: skip
def not_quantized(ready: Source[Ready]) -> Seen:
    """vLLM serves some quantized checkpoints unquantized without an error; the comparison would be with itself."""
    verified = ready.need(lambda r: r.quantization.verified)
    claimed, evidence = ready.need(lambda r: r.quantization.claimed), ready.need(lambda r: r.quantization.evidence)
    return Seen(not verified, f"claimed {claimed}; {' '.join(evidence) or 'no evidence recorded'}")


@guard("server", "warn", title="Quantization not proven",
       detection="ready.json: quantization.verified is null, of a server whose log is at hand",
       remedy="Read quantization.evidence; take a format whose layers or kernels this vLLM's log names.")  # fmt: skip
def quantization_not_proven(ready: Source[Ready]) -> Seen:
    """Neither the log nor the files decide whether it is quantized; what was measured may be the unquantized model."""
    log, evidence = ready.need(lambda r: r.log), ready.need(lambda r: r.quantization.evidence)
    return Seen(ready.get(lambda r: r.quantization.verified) is None, f"{log}: {' '.join(evidence)}")


@guard("server", "warn", title="Fallback kernel",
       detection="kernel name of a fallback, or an FP8 claim that runs with 16-bit activations",
       remedy="Say so with the result, or use a format that the GPU has units for.")  # fmt: skip
def kernel_fallback(ready: Source[Ready]) -> Seen:
    """The format is served, but not by the kernel that makes it fast (for example FP8 as W8A16)."""
    claimed = ready.need(lambda r: r.quantization.claimed)
    if claimed.lower() in _PLAIN:
        return Seen(False, "not quantized, so no quantized kernel is expected")
    kernel, label = ready.need(lambda r: r.quantization.kernel), ready.get(lambda r: r.quantization.label) or ""
    weight_only = "fp8" in claimed.lower() and label.upper().endswith("A16")
    bad = weight_only or any(word in kernel.lower() for word in _FALLBACKS)
    return Seen(bad, f"claimed {claimed}, runs as {label or 'unknown'} with {kernel}")


@guard("server", "fail", title="Chat template twice or never",
       detection="more than one begin-of-text token, or chat ids equal to plain ids",
       remedy="Send messages to the chat endpoint, or a rendered prompt without added special tokens.")  # fmt: skip
def chat_template(ready: Source[Ready]) -> Seen:
    """The model sees text that it was not trained on; answers get worse for no reason of quantization."""
    count, plain = ready.need(lambda r: r.tokenizer.chat_bos_count), ready.need(lambda r: r.tokenizer.chat_is_plain)
    if count > 1:
        return Seen(True, f"a chat prompt begins with {count} begin-of-text tokens: a template was applied twice")
    if plain:
        return Seen(True, "a chat prompt has the ids of the plain text: no template was applied")
    return Seen(False, f"{count} begin-of-text tokens, ids differ from the plain text's")


@guard("server", "fail", title="Sampling defaults of the repository",
       detection="vLLM logs “Default vLLM sampling parameters have been overridden”",
       remedy="Serve with --generation-config vllm.")  # fmt: skip
def sampling_defaults(ready: Source[Ready]) -> Seen:
    """The repository's generation_config changes every request that leaves a field unset, per repository."""
    overridden = ready.need(lambda r: r.settings.sampling_defaults_overridden)
    return Seen(overridden, "the repository's generation_config is in force" if overridden else "vLLM's own")


@guard("run", "fail", title="Memory returned",
       detection="memory used after the stop is above that before the start (session.json)",
       remedy="Look for left processes of the server; reset is yours to decide.")  # fmt: skip
def memory_returned(sessions: Mapping[str, Session]) -> Seen:
    """A server left memory behind: the next model had less, or a process is still there."""
    if not sessions:
        raise Missing("sessions are not known")
    unknown = [model for model, session in sessions.items() if session.memory_returned is None]
    held = [model for model, session in sessions.items() if session.memory_returned is False]
    if unknown and not held:
        raise Missing(f"memory_returned is not known for {', '.join(unknown)}")
    return Seen(bool(held), f"memory not returned by {', '.join(held)}" if held else "all memory came back")
