"""An endless, reproducible sequence of distinct requests from a prompt set or documents.

Every request begins with a text of its own, so that no prefix-cache block of one can serve another. The order depends
on the seed, those texts on the seed and the salt: two models that get the same of both get the same requests in the
same order; another salt gives the same prompts in the same order behind other texts.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantbench.errors import QuantbenchError

PLACEHOLDERS = ("{prompt}", "{document}")
_BITS = 40  # of the leading text: ten hexadecimal digits


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's input: a text, or chat messages. `nonce` is its distinct leading text."""

    id: str
    nonce: str
    text: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None


def requests_for(
    prompts: Sequence[Mapping[str, Any]],
    *,
    template: str | None = None,
    seed: str,
    salt: str = "",
    warmup: bool = False,
) -> Iterator[Prompt]:
    """Endless distinct requests. Warm-up requests share no leading text with measured ones of the same seed and salt.

    `prompts`: items {"id", "prompt" | "text" | "messages"}. `template` wraps the text at `{prompt}` or
    `{document}` (replaced literally, so documents may contain braces). Each item is used once per round, in an
    order shuffled anew for each round. Raises QuantbenchError for an empty set, a bad item, a bad template.
    """
    return _endless(checked(prompts, template), seed, salt, warmup)


def checked(prompts: Sequence[Mapping[str, Any]], template: str | None = None) -> list[Prompt]:
    """The items as Prompts, in order and without leading texts. Raises QuantbenchError like `requests_for`."""
    if not prompts:
        raise QuantbenchError("the prompt set is empty", remedy="name a prompts file with at least one line")
    return [_checked(number, item, template) for number, item in enumerate(prompts)]


def _endless(items: Sequence[Prompt], seed: str, salt: str, warmup: bool) -> Iterator[Prompt]:
    key, stride = _mixer(seed + salt)
    shuffler = random.Random(f"{seed}|{'warmup' if warmup else 'measured'}")
    number = int(warmup)  # even numbers are measured, odd ones warm up
    while True:
        for item in shuffler.sample(items, len(items)):
            nonce = f"{(number * stride + key) % (1 << _BITS):010x}"
            yield _with_lead(item, nonce)
            number += 2


def _mixer(seed: str) -> tuple[int, int]:
    """Offset and odd stride: number -> number * stride + offset is one-to-one modulo a power of two."""
    digest = hashlib.sha256(seed.encode()).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:16]) | 1


def _with_lead(item: Prompt, nonce: str) -> Prompt:
    """Put the nonce in front of the text, or in front of the first message."""
    if item.text is not None:
        return Prompt(item.id, nonce, text=f"[{nonce}] {item.text}")
    assert item.messages is not None
    first, *rest = item.messages
    return Prompt(item.id, nonce, messages=({**first, "content": f"[{nonce}] {first['content']}"}, *rest))


def _checked(number: int, item: Mapping[str, Any], template: str | None) -> Prompt:
    """An item as a Prompt without its leading text."""
    name = str(item.get("id", number))
    messages = item.get("messages")
    if messages is not None:
        good = isinstance(messages, list) and messages and all(_is_message(m) for m in messages)
        if not good or template is not None:
            why = "does not go with a template" if good else "must be a list of {role, content} with texts"
            remedy = "set template to null" if good else 'write [{"role": "user", "content": "…"}]'
            raise QuantbenchError(f"prompt {name!r}: `messages` {why}", remedy=remedy)
        return Prompt(name, "", messages=tuple(dict(m) for m in messages))
    text = item.get("prompt", item.get("text"))
    if not isinstance(text, str) or not text.strip():
        raise QuantbenchError(f"prompt {name!r} has no text", remedy='each line needs "prompt", "text" or "messages"')
    return Prompt(name, "", text=_filled(template, text))


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, Mapping)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )


def _filled(template: str | None, text: str) -> str:
    if template is None:
        return text
    for placeholder in PLACEHOLDERS:
        if placeholder in template:
            return template.replace(placeholder, text)
    raise QuantbenchError(
        "the template has no place for the text", remedy=f"write {' or '.join(PLACEHOLDERS)} where it goes"
    )
