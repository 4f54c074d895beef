"""What something was measured with, against what the plan wants: the differences, in words.

Unknown is not other: what an earlier version did not write down, and keys that only one side has, are not compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from quantbench.records.block import BlockContext, KeptBlock, MeasuredWith, ServedWith
from quantbench.records.quality import AnsweredWith
from quantbench.records.suite import CollectedWith

_LONGEST = 40
_NAMES_ONLY = ("env",)
"""Settings whose values may be nobody's business: only which of them differ is said."""
_PLACES = ("model", "lane", "devices", "port", "source", "served_name", "command", "endpoint")
"""Parts of a server's spec that say where it was, and not what."""
_ASKED = ("floor", "thinking", "thinking_tokens")
"""How answers were asked for. Not `concurrency`: what was asked one by one is none the worse for it."""


def block_differences(block: BlockContext | KeptBlock, wanted: MeasuredWith) -> tuple[str, ...]:
    """Each difference as "max_num_seqs 7, now 64"; none where the block is what the plan wants, or does not tell."""
    kept, knobs = block.measured_with, wanted.knobs
    own = {"protocol": block.protocol, "style": block.style, "min_seconds": block.min_seconds}
    found = [*_differing(own, {key: getattr(knobs, key) for key in own})]
    if kept is None:
        found += _files(block.server.source_id, wanted.server.source_id)
    else:
        found += server_differences(kept.server, wanted.server)
        if kept.knobs != knobs:
            found += _differing(kept.knobs.as_dict(), knobs.as_dict())
        if None not in (kept.prompts, wanted.prompts) and kept.prompts != wanted.prompts:
            found.append("another text of the prompt file")
    return tuple(dict.fromkeys(found))


def server_differences(kept: ServedWith, wanted: ServedWith) -> tuple[str, ...]:
    """The same of two servers."""
    found: list[str] = []
    if kept.spec != wanted.spec:  # of nearly all of the thousands of blocks that a plan looks at they are equal
        found += _differing(_flat(kept.spec), _flat(wanted.spec))
    if kept.made is not None and wanted.made is not None:
        found += _differing(_flat(kept.made), _flat(wanted.made))
    if None not in (kept.vllm, wanted.vllm) and kept.vllm != wanted.vllm:
        found.append(f"vLLM {kept.vllm}, now {wanted.vllm}")
    return (*found, *_files(kept.source_id, wanted.source_id))


def run_differences(old: BlockContext, new: BlockContext) -> dict[str, str]:
    """{key: "7 against 64"} of all that two blocks of two runs are known to be measured with.

    `weights` is the model's files, `prompts` the prompt file, `vllm` the version. Not where servers and files lay, nor
    by which command they were started: what that changes, other keys say.
    """
    return {key: f"{before} against {now}" for key, before, now in _known(old, new)}


def _known(old: BlockContext, new: BlockContext) -> Iterator[tuple[str, str, str]]:
    a, b = old.measured_with, new.measured_with
    files = old.server.source_id, new.server.source_id
    if a is None or b is None:
        sides = [{"protocol": x.protocol, "style": x.style, "min_seconds": x.min_seconds} for x in (old, new)]
    else:
        sides = [_without_places(x) for x in (a, b)]
        files = a.server.source_id or files[0], b.server.source_id or files[1]
        if None not in (a.prompts, b.prompts) and a.prompts != b.prompts:
            yield "prompts", f"SHA-256 {str(a.prompts)[:12]}", str(b.prompts)[:12]
        if None not in (a.server.vllm, b.server.vllm) and a.server.vllm != b.server.vllm:
            yield "vllm", str(a.server.vllm), str(b.server.vllm)
    if None not in files and files[0] != files[1]:
        yield "weights", str(files[0]), str(files[1])
    for key in (key for key in sides[0] if key in sides[1]):
        before, now = (_plain(side[key]) for side in sides)
        if before != now:
            yield key, *_both(key, before, now)


def _without_places(kept: MeasuredWith) -> dict[str, Any]:
    server = {key.removeprefix("settings."): value for key, value in _flat(kept.server.spec).items()}
    made = {f"made.{key}": value for key, value in _flat(kept.server.made or {}).items()}
    both = server | made | kept.knobs.as_dict()
    return {key: value for key, value in both.items() if key not in _PLACES}


def _both(key: str, before: Any, now: Any) -> tuple[str, str]:
    if key in _NAMES_ONLY and isinstance(before, Mapping) and isinstance(now, Mapping):
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        return f"one value of {', '.join(names)}", "another"
    return _short(before), _short(now)


def answer_differences(kept: AnsweredWith, wanted: AnsweredWith) -> tuple[str, ...]:
    """The same of a model's answers."""
    prompts = [] if kept.prompts == wanted.prompts else ["another text of the prompt file"]
    kept_asked, asked = ({key: getattr(side, key) for key in _ASKED} for side in (kept, wanted))
    return (*server_differences(kept.server, wanted.server), *prompts, *_differing(kept_asked, asked))


def collected_differences(kept: CollectedWith, wanted: CollectedWith) -> tuple[str, ...]:
    """The same of what was collected for a suite."""
    items = [] if kept.version == wanted.version else ["other items"]
    floor = _differing({"floor": kept.floor}, {"floor": wanted.floor})
    return (*server_differences(kept.server, wanted.server), *items, *floor)


def _files(kept: str | None, wanted: str | None) -> list[str]:
    both = None not in (kept, wanted)
    return [f"files of the model {kept}, now {wanted}"] if both and kept != wanted else []


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Leaves by their name; `env` is a leaf, and so is what is no mapping."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        nested = isinstance(inner, Mapping) and key not in _NAMES_ONLY
        flat |= _flat(inner, f"{path}{key}.") if nested else {f"{path}{key}": inner}
    return flat


def _differing(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for key in (key for key in kept if key in wanted):
        before, now = (_plain(side[key]) for side in (kept, wanted))
        if before != now:
            yield _said(key.removeprefix("settings."), before, now)


def _plain(value: Any) -> Any:
    """As JSON has it: a tuple is a list. A whole number is one however it was written: 3.0 is 3."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return list(value) if isinstance(value, tuple) else value


def _said(key: str, before: Any, now: Any) -> str:
    if key in _NAMES_ONLY and isinstance(before, Mapping) and isinstance(now, Mapping):
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        return f"{key} ({', '.join(names)})"
    return f"{key} {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
