"""A vLLM log → start-up phases, memory, settings, kernel, layers: text in, facts out.

Patterns and the versions they were read in: `log_patterns`. What is not found is None, with the line looked for.
`incidents` reads a stretch of a running server's log, `diagnose` the log of a start that failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from quantbench.engines import endings
from quantbench.engines.openai_api import printable
from quantbench.engines.protocol import Diagnosis, StartFacts
from quantbench.engines.vllm import log_patterns as patterns
from quantbench.records.base import convert
from quantbench.records.block import Incident
from quantbench.records.server import Memory, Settings, Startup

T = TypeVar("T", Startup, Memory, Settings)

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_HEAD = (
    r"(?:\((?P<process>[\w.:-]+)(?: pid=(?P<pid>\d+))?(?:, ip=[^)]*)?\) )*"
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL|FATAL) \d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)? "
    r"\[(?P<source>[^\]]+:\d+)\]"
)
_LINE = re.compile(rf"^{_HEAD} ?(?P<message>.*)$")
_GLUED = re.compile(_HEAD)
# Progress bars of tqdm, which end in no line end while they are drawn: `Loading shards:  25%|██▌  | 1/4 [00:02<00:06]`.
_IN_A_BAR = re.compile(r"\d%(?:\|| Completed \|)|\dit \[|it/s|s/it")
_BAR = re.compile(r"^[^|\]]{0,200}?(?:\d+%(?:\|[^|]*\|| Completed \|) ?\S+/\S+|\d+it) \[[^\]]*\]")
_PROCESS = re.compile(r"^(?:\([\w.:-]+ pid=\d+\) )+")
_NOT_FOUND = "not found: looked for “{}”"
_EAGER = "not applicable: eager mode compiles nothing and captures no graphs"


@dataclass(frozen=True)
class Line:
    """One line of the log. Lines that vLLM's logger did not write have level "" and all but the process as message.

    `origin` is the process and the source line that wrote it.
    """

    text: str
    level: str
    origin: str
    message: str


@dataclass(frozen=True)
class Kernel:
    """`kernel` computes the layers of `method`, e.g. CPUWNA16LinearKernel for CompressedTensorsWNA16."""

    kernel: str
    method: str


@dataclass(frozen=True)
class Layers:
    """The module tree of VLLM_LOG_MODEL_INSPECTION=1, per GPU.

    `linear`: quant method → parameters of linear layers ("" = not quantized).
    """

    linear: dict[str, int]
    other_quantized: tuple[str, ...]
    experts: bool


@dataclass(frozen=True)
class LogFacts:
    """What one start of a server logged. Units are in the names; with tensor parallelism, memory is that of one GPU.

    `missing` has one entry per field of `startup`, `memory` and `settings` that is None, with the reason.
    """

    version: str | None
    started: bool
    startup: dict[str, Any]
    memory: dict[str, Any]
    settings: dict[str, Any]
    kernels: tuple[Kernel, ...]
    fallback_bits: int | None
    online_layers: int | None
    layers: Layers | None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def kernel(self) -> str | None:
        """The linear kernels by name, joined by " + " where there are several; None where the log names none."""
        return " + ".join(dict.fromkeys(k.kernel for k in self.kernels)) or None

    def record(self, values: Mapping[str, Any], kind: type[T]) -> T:
        """A section with its own `missing`, as `ready.json` holds it."""
        own = {key: value for key, value in values.items() if key in kind.__struct_fields__}
        return convert(own | {"missing": {k: v for k, v in self.missing.items() if k in own}}, kind)


def lines(text: str) -> list[Line]:
    """Split a log into lines, without colours. A last line without its end is dropped: it may be cut in a number."""
    parts = re.split(r"\r?\n|\r", _ANSI.sub("", text))
    return [_line(piece) for part in parts[:-1] for piece in _unglued(part) if piece.strip()]


def _unglued(text: str) -> list[str]:
    """A progress bar and what another process, or the same one, wrote behind it, apart."""
    if _LINE.match(text) or not _IN_A_BAR.search(text):
        return [text]
    pieces = []
    if (record := _GLUED.search(text)) and _IN_A_BAR.search(text, 0, record.start()):
        pieces, text = [text[: record.start()]], text[record.start() :]
    elif bar := _BAR.match(text):
        return [bar[0], *_unglued(text[bar.end() :])]
    return [*pieces, text]


def _line(text: str) -> Line:
    m = _LINE.match(text)
    if not m:
        return Line(text, "", "", _PROCESS.sub("", text, count=1))
    return Line(text, m["level"], f"{m['process']} {m['pid']} {m['source']}", m["message"])


def last_start(all_lines: Sequence[Line]) -> list[Line]:
    """The lines from the last start of the API server on; all of them where no start is marked."""
    marks = [i for i, line in enumerate(all_lines) if line.level and patterns.START.match(line.message)]
    return list(all_lines[marks[-1] :] if marks else all_lines)


def parse(text: str) -> LogFacts:
    """Read the facts of the last start in a log. Never raises; an unknown format gives `missing` entries."""
    own = last_start(lines(text))
    messages = [line.message for line in own if line.level]
    started = any(patterns.READY.match(line.message.removeprefix("INFO:").strip()) for line in own)
    sections: dict[str, dict[str, Any]] = {"startup": {"total_s": None}, "memory": {}, "settings": {}}
    missing = {"total_s": "not in the log: whoever starts the server measures it"}
    _read_rows(messages, sections, missing)
    version = _read_config(messages, sections["settings"], missing)
    _complete(messages, sections, missing, started=started)
    return LogFacts(
        version=version,
        started=started,
        startup=sections["startup"],
        memory=sections["memory"],
        settings=sections["settings"],
        kernels=_kernels(messages),
        fallback_bits=_last_int(patterns.FALLBACK, "bits", messages),
        online_layers=_last_int(patterns.ONLINE, "n", messages),
        layers=_layers(own),
        missing=missing,
    )


def _read_rows(messages: list[str], sections: dict[str, dict[str, Any]], missing: dict[str, str]) -> None:
    for row in patterns.ROWS:
        section = sections[row.section]
        if section.get(row.field) is not None:
            continue
        matches = [m for message in messages if (m := row.regex.match(message))]
        section[row.field] = row.read(matches[-1]) if matches else None
        if matches:
            missing.pop(row.field, None)
        else:
            before = missing.get(row.field, "")
            reason = _NOT_FOUND.format(row.looked_for)
            missing[row.field] = f"{before}, “{row.looked_for}”" if before and row.looked_for not in before else reason


def _read_config(messages: list[str], settings: dict[str, Any], missing: dict[str, str]) -> str | None:
    matches = [m for message in messages if (m := patterns.ENGINE_CONFIG.match(message))]
    config = matches[-1]["config"] if matches else ""
    for name, expression in patterns.CONFIG_FIELDS.items():
        m = re.search(expression, config)
        if m:
            settings[name] = _config_value(name, m[1])
            missing.pop(name, None)
        elif settings.get(name) is None:
            settings[name] = None
            missing[name] = _NOT_FOUND.format(patterns.CONFIG_LOOKED_FOR.format(name))
    return matches[-1]["version"] if matches else None


def _config_value(name: str, text: str) -> Any:
    if name in ("max_model_len", "tensor_parallel_size"):
        return int(text)
    if name in ("enforce_eager", "prefix_caching"):
        return text == "True"
    if name == "speculative":
        return text != "None,"
    return "none" if text == "None" else text


def _complete(
    messages: list[str], sections: dict[str, dict[str, Any]], missing: dict[str, str], *, started: bool
) -> None:
    """What follows from several lines: the compile cache's state, what eager mode leaves out, defaults that held."""
    startup, settings = sections["startup"], sections["settings"]
    startup["compile_cache"] = _compile_cache(messages, eager=bool(settings["enforce_eager"]))
    if startup["compile_cache"] is None:
        missing["compile_cache"] = _NOT_FOUND.format("Directly load …” or “Compiling a graph …")
    if settings["enforce_eager"]:
        for name in ("compile_s", "graphs_s", "cuda_graphs_gib"):
            if name in missing:
                missing[name] = _EAGER
    # Silence proves that the defaults held only where the whole start was read.
    if started and settings["enforce_eager"] is not None and not settings["sampling_defaults_overridden"]:
        settings["sampling_defaults_overridden"] = False
        missing.pop("sampling_defaults_overridden", None)


def _compile_cache(messages: list[str], *, eager: bool) -> str | None:
    if eager or any(patterns.CACHE_OFF.match(message) for message in messages):
        return "off"
    if any(patterns.CACHE_COLD.match(message) for message in messages):
        return "cold"
    return "warm" if any(patterns.CACHE_WARM.match(message) for message in messages) else None


def _kernels(messages: list[str]) -> tuple[Kernel, ...]:
    matches = [m for message in messages if (m := patterns.KERNEL.match(message))]
    named = [Kernel(m["kernel"] or m["other"], m["method"] or m["method2"]) for m in matches]
    return tuple(dict.fromkeys(named))


def _last_int(regex: re.Pattern[str], group: str, messages: list[str]) -> int | None:
    matches = [m for message in messages if (m := regex.match(message))]
    return int(matches[-1][group]) if matches else None


def _layers(own: list[Line]) -> Layers | None:
    """Walk the module tree by its indentation; `3 x Layer(` multiplies what is below it."""
    starts = [i for i, line in enumerate(own) if line.level and patterns.STRUCTURE.match(line.message)]
    if not starts:
        return None
    tree = [line.message for line in own[starts[-1] + 1 :] if line.origin == own[starts[-1]].origin]
    linear: dict[str, int] = {}
    other: list[str] = []
    experts = False
    above: list[tuple[int, int]] = []  # (indent, how often it is repeated)
    for message in tree:
        m = patterns.MODULE.match(message)
        if not m:
            continue
        depth, method, size = len(m["indent"]), patterns.QUANT.search(m["info"]), patterns.SHAPE.search(m["info"])
        above = [(d, t) for d, t in above if d < depth]
        times = int(m["times"] or 1) * (above[-1][1] if above else 1)
        above.append((depth, times))
        experts = experts or "MoE" in m["kind"]
        name = method[1] if method else ""
        if size and "Linear" in m["kind"]:
            linear[name] = linear.get(name, 0) + times * int(size[1]) * int(size[2])
        elif name:
            other.append(f"{m['name'] or m['kind']}: {name}")
    return Layers(linear, tuple(dict.fromkeys(other)), experts) if linear else None


def incidents(text: str) -> tuple[Incident, ...]:
    """What disturbed a measurement, in a stretch of a running server's log; each distinct line once.

    Ids: jit, graph_capture, nan, oom, engine_dead, preemption, error. A traceback is one error. What a server logs
    while it is being stopped is no incident.
    """
    distinct: dict[tuple[str, str], Incident] = {}
    erring = ""  # the origin of the error message that is being continued
    for line in _until_shutdown(lines(text if text.endswith("\n") else text + "\n")):
        kind = _incident(line)
        if kind and not (kind == "error" and line.level and line.origin == erring):
            distinct.setdefault((kind, line.text), Incident(id=kind, line=line.text[:400]))
        if line.level:
            erring = line.origin if line.level in patterns.BAD else ""
    return tuple(distinct.values())


def _incident(line: Line) -> str | None:
    return next(
        (k for k, levels, regex in patterns.INCIDENTS if line.level in levels and regex.search(line.message)), None
    )


def _until_shutdown(own: list[Line]) -> list[Line]:
    ends = [i for i, line in enumerate(own) if line.level and line.message.startswith("[shutdown]")]
    return own[: ends[0]] if ends else own


def start_facts(text: str) -> StartFacts:
    """The last start in a log as ready.json holds it."""
    facts = parse(text)
    return StartFacts(
        facts.record(facts.startup, Startup),
        facts.record(facts.memory, Memory),
        facts.record(facts.settings, Settings),
    )


def diagnose(text: str) -> Diagnosis | None:
    """Why the last start in this log failed; None where the log holds no error at all."""
    own = _until_shutdown(last_start(lines(text if text.endswith("\n") else text + "\n")))
    return _known(own) or _refused(own) or _signalled(own) or _last_error(own)


def _known(own: Sequence[Line]) -> Diagnosis | None:
    """One of the causes that we have words for."""
    for expression, cause, remedy in patterns.CAUSES:
        for at, line in enumerate(own):
            if m := expression.search(line.message):
                values = {k: printable(v or "", 400) for k, v in m.groupdict().items()}
                cause, remedy = cause.format(**values), remedy.format(**values)
                if cause == patterns.OUT_OF_MEMORY:
                    stages = (s for s in patterns.STAGES if any(s[0].search(before.message) for before in own[:at]))
                    _, when, remedy = next(stages, (None, "", remedy))
                    cause += when
                return Diagnosis(cause, remedy, printable(line.message, 400))
    return None


def _refused(own: Sequence[Line]) -> Diagnosis | None:
    """What pydantic's last error says: its words follow the line that counts the errors, up to `[type=…]`."""
    found = [(at, m) for at, line in enumerate(own) if (m := patterns.VALIDATION.search(line.message))]
    if not found:
        return None
    at, m = found[-1]
    words: list[str] = []
    left = int(m["count"])
    for line in own[at + 1 : at + 40]:
        text, ends, _ = line.message.strip().partition(" [type=")
        if not text.startswith("For further information"):
            words.append(text)
        left -= bool(ends)
        if not left:
            break
    said = printable(" ".join(words), 600)
    remedy = "correct what it names: the model's files, or its server arguments in the config"
    return Diagnosis(f"vLLM refuses the {m['what']}: {said}", remedy, said) if said else None


def _signalled(own: Sequence[Line]) -> Diagnosis | None:
    """A signal ended a process of the server, and another one, or the shell, wrote that down."""
    for line in own:
        if m := patterns.SIGNALLED.search(line.message):
            number = int(m["number"]) if m["number"] else endings.WORDS[m["word"]]
            ending = endings.of_signal(number)
            return Diagnosis(*ending, printable(line.message, 400), signal=int(number), certain=False)
    return None


def _last_error(own: Sequence[Line]) -> Diagnosis | None:
    errors = [line for line in own if patterns.ERROR.match(line.message) and "root cause" not in line.message]
    errors = errors or [line for line in own if line.level in ("ERROR", "CRITICAL", "FATAL")]
    if not errors:
        return None
    last = printable(errors[-1].message, 400)
    remedy = "read the log; the cause is above its last traceback"
    return Diagnosis(f"the server failed: {last}", remedy, last, certain=False)
