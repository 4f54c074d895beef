"""What is served: the content of ready.json, gathered from the log, /metrics, the files and a test completion."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import psutil
from msgspec.structs import replace

from quantbench.engines import openai_api
from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import UNQUANTIZED
from quantbench.errors import QuantbenchError
from quantbench.observe import peaks
from quantbench.records.block import Page
from quantbench.records.server import (
    Memory,
    Mode,
    Quantization,
    Ready,
    ServerSpec,
    Settings,
    Startup,
    Versions,
    Vram,
)
from quantbench.records.serving import State
from quantbench.serving import identity, memory, model_source, processes, registry

T = TypeVar("T", Memory, Startup, Settings)
_NOT_OURS = "not known: the server is not ours, so its log is not at hand"


def gather(state: State) -> Ready:
    """Everything about a server of ours that has just become ready (ready.json).

    Raises QuantbenchError if it does not answer, or is not quantized the way its config says.
    """
    spec, log = state.spec, registry.log_text(state)
    engine, folder = engine_of(spec), model_source.find_source(spec)
    start, page = engine.start_facts(log), engine.snapshot(engine.metrics_page(spec.url))
    quantization = engine.check_quantization(spec, log, display(state.log), folder, _baseline_weights(spec))
    try:
        answer = openai_api.complete(spec.url, spec.served_name)
    except openai_api.ClientError as error:
        raise QuantbenchError(
            f"server of {spec.model} is healthy but completes nothing: {error}",
            remedy="read the log",
            log=display(state.log),
        ) from error
    missing = {field: reason for field, reason in start.startup.missing.items() if field != "total_s"}
    installed, card = engine.installed(spec), memory.snapshot(spec.devices)
    version = engine.version(spec.url) or installed.vllm
    return replace(
        _asked(spec, answer, state.mode, quantization),
        versions=replace(installed, vllm=version, driver=card.driver if card else None),
        started_at=state.started_at,
        log=display(state.log),
        memory=_memory(spec, start.memory, page),
        vram=_vram(state),
        startup=replace(start.startup, total_s=state.start_s, missing=missing),
        settings=replace(start.settings, inherited_env=engine.inherited(spec, state.mode)),
        step=engine.step(spec, folder, quantization.label),
        peaks=peaks.of_devices(spec.devices),
    )


def of_endpoint(spec: ServerSpec) -> Ready:
    """The same of a server that is not ours: without log and memory, and so without proof of its quantization."""
    engine, claimed, key = engine_of(spec), spec.claimed.quantization, openai_api.key_of(spec)
    page = engine.snapshot(engine.metrics_page(spec.url, key=key))
    try:
        answer = openai_api.complete(spec.url, spec.served_name, key=key)
    except openai_api.ClientError as error:
        name = f"models.{spec.model}.endpoint"
        raise QuantbenchError(f"{name}: {error}", remedy=openai_api.remedy(error, name)) from error
    words = f"The config says {claimed}; no log, no proof."
    sizes = Memory(kv_cache_tokens=page.kv_cache_tokens, max_concurrency=page.max_concurrency)
    return replace(
        _asked(spec, answer, "endpoint", Quantization(claimed=claimed, label=claimed, evidence=(words,))),
        versions=Versions(vllm=engine.version(spec.url, key)),
        memory=_unknown(sizes),
    )


def _asked(spec: ServerSpec, answer: openai_api.Answer, mode: Mode, quantization: Quantization) -> Ready:
    """What spec and API tell of any server; all that only our own servers tell is unknown."""
    engine, key = engine_of(spec), openai_api.key_of(spec)
    return Ready(
        model=spec.model,
        spec_hash=spec.hash,
        source=spec.source,
        source_id=identity.source_id(spec),
        revision=None if spec.endpoint else model_source.revision(spec),
        unpacked=None if spec.endpoint else model_source.unpacked(spec),
        served_name=spec.served_name,
        url=spec.url,
        hardware=identity.hardware(spec),
        lane=spec.lane,
        devices=spec.devices,
        versions=Versions(),
        mode=mode,
        started_at=None,
        log=None,
        quantization=quantization,
        memory=Memory(),
        vram=None,
        startup=_unknown(Startup()),
        settings=_unknown(Settings()),
        test_completion=answer.completion,
        logits=engine.logits(spec.url, spec.served_name, key),
        tokenizer=engine.tokenizer(spec.url, spec.served_name, key),
        system_fingerprint=answer.fingerprint,
    )


def _unknown(section: T) -> T:
    """The section with the reason for each of its nulls."""
    nulls = [field for field in section.__struct_fields__ if getattr(section, field) is None]
    return replace(section, missing=dict.fromkeys(nulls, _NOT_OURS))


def _baseline_weights(spec: ServerSpec) -> float | None:
    """Weight memory of an unquantized server beside this one, if there is one."""
    beside = [state for state in registry.servers(spec.devices) if state.spec.claimed.quantization in UNQUANTIZED]
    return next((state.ready.memory.weights_gib or None for state in beside if state.ready), None)


def _memory(spec: ServerSpec, logged: Memory, page: Page) -> Memory:
    """What the log says of memory, completed from the metrics page and by the size of the weight files."""
    size = model_source.checkpoint_mib(spec)
    pairs = {key: (getattr(logged, key), getattr(page, key)) for key in ("kv_cache_tokens", "max_concurrency")}
    known = {key: by_log if by_log is not None else by_page for key, (by_log, by_page) in pairs.items()}
    missing = {field: reason for field, reason in logged.missing.items() if known.get(field) is None}
    return replace(logged, **known, checkpoint_gib=round(size / 1024, 4) if size else None, missing=missing)


def _vram(state: State) -> Vram:
    """Memory before the start and now: NVML's device total, or the resident memory of the server's processes."""
    card, before = memory.snapshot(state.devices), state.before_mib
    if card and before is not None:
        after, delta = float(card.used_mib), round(card.used_mib - before, 1)
        return Vram(source="nvml", before_mib=before, after_mib=after, delta_mib=delta, total_mib=card.total_mib)
    after, total = processes.rss_mib(registry.members(state)), round(psutil.virtual_memory().total / 2**20, 1)
    return Vram(source="rss", before_mib=0.0, after_mib=after, delta_mib=after, total_mib=total)


def display(path: Path | str) -> str:
    """A path as shown to the user: relative to the working folder where it lies in it."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else str(path)
