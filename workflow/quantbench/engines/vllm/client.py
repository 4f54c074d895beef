"""Requests that vLLM answers in its own way: version, metrics, log-probabilities, tokenizer, sleep and wake."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from quantbench.engines.openai_api import TEST_PROMPT, ClientError, ask, complete, printable, request
from quantbench.records.server import Logits, Tokenizer

PROBES = (
    "Hello, world!", " leading space", "trailing space ", "two  spaces", "tab\tand\nnewline", "MiXeD CaSe WoRdS",
    "0123456789", "3.14159 and -2.7e10", "1 + 1 = 2", "def f(x):\n    return x ** 2", '{"key": [1, 2.5, null]}',
    "Grüße aus Zürich", "日本語のテキスト", "Привет, мир", "مرحبا", "emoji 🙂🚀", "e\u0301 combining", "<|im_start|>",
    "https://example.org/a?b=c#d", "",
)  # fmt: skip
"""Texts that tell tokenizers apart: white space, digits, code, scripts, a special token, nothing at all."""
CHAT_PROBE = [{"role": "user", "content": "Hello, world!"}]

_NEAR_TIE = 1.0
"""Of log-probabilities. What batches and kernels change between two runs of one server is below 0.3."""
_FIRST_WORD = re.compile(r"\w+|\S")
_NOT_A_NUMBER = "Out of range float values are not JSON compliant"
"""What vLLM (0.32) answers in place of logprobs that are NaN."""


def version(url: str, key: str | None = None) -> str | None:
    """vLLM's version, None where the server does not say."""
    try:
        return str(ask(f"{url}/version", key=key)["version"])
    except (ClientError, KeyError):
        return None


def metrics_page(url: str, timeout: float = 10.0, key: str | None = None) -> str:
    """The /metrics page, "" where there is none."""
    try:
        return request(f"{url}/metrics", timeout=timeout, key=key).decode(errors="replace")
    except ClientError:
        return ""


def logits(url: str, model: str, key: str | None = None) -> Logits:
    """Are the log-probabilities of a short greedy answer numbers?

    A model whose logits are NaN answers plain requests with success and empty text. Asked for logprobs, vLLM cannot
    write them as JSON and answers HTTP 400; others send null or NaN. Null where the server gives no logprobs at all.
    """
    body = {"model": model, "prompt": TEST_PROMPT, "max_tokens": 4, "temperature": 0.0, "logprobs": 1}
    try:
        answer = ask(f"{url}/v1/completions", body, timeout=120, key=key)
        values = list(answer["choices"][0]["logprobs"]["token_logprobs"])
    except ClientError as error:
        return _logits(False if _NOT_A_NUMBER in str(error) else None, str(error))
    except (KeyError, IndexError, TypeError):
        return _logits(None, f"{url}/v1/completions gives no logprobs")
    finite = all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    return _logits(finite if values else None, f"logprobs of {len(values)} tokens: {', '.join(map(str, values))}")


def _logits(finite: bool | None, seen: str) -> Logits:
    return Logits(finite=finite, seen=seen, missing={"finite": seen} if finite is None else {})


def tokenizer(url: str, model: str, key: str | None = None) -> Tokenizer:
    """Fingerprints of the tokenizer.

    `chat_bos_count` counts the tokenizer's begin-of-text token at the head of a chat prompt (2 is a known fault);
    `chat_is_plain`: a chat prompt has the ids of its bare text, so no template was applied. Null where not offered.
    """

    def token_ids(**body: Any) -> list[int]:
        return [int(token) for token in ask(f"{url}/tokenize", {"model": model, **body}, key=key)["tokens"]]

    facts: dict[str, Any] = {}  # what is known when the server stops answering stands
    try:
        ids = [token_ids(prompt=text) if text else [] for text in PROBES]
        facts["probe_sha256"] = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
        plain = token_ids(prompt=PROBES[0], add_special_tokens=False)
        head = [token for token in ids[0] if token not in plain][:1]
        chat = token_ids(messages=CHAT_PROBE, add_generation_prompt=True)
        facts["chat_probe_sha256"] = hashlib.sha256(json.dumps(chat).encode()).hexdigest()
        facts["chat_is_plain"] = chat in (plain, ids[0])
        facts["chat_bos_count"] = _leading(chat, head[0]) if head and ids[0][0] == head[0] else 0
    except (ClientError, KeyError, TypeError, ValueError):
        pass
    return Tokenizer(**facts)


def _leading(ids: list[int], token: int) -> int:
    return next((n for n, other in enumerate(ids) if other != token), len(ids))


def sleep(url: str) -> None:
    """Send the server to sleep: weights to host memory, KV cache dropped."""
    request(f"{url}/sleep?level=1", post=True, timeout=60)


def wake(url: str) -> None:
    """Wake the server up."""
    request(f"{url}/wake_up", post=True, timeout=60)


def is_sleeping(url: str) -> bool | None:
    """Does the server say that it sleeps? None where it does not tell."""
    try:
        return bool(ask(f"{url}/is_sleeping")["is_sleeping"])
    except (ClientError, KeyError):
        return None


def changed_answer(url: str, model: str, before: str) -> str:
    """How a server that was woken answers TEST_PROMPT otherwise than it did `before`; "" if it answers as it did.

    Greedy answers of an honest server may part where two tokens are as likely as each other. So where they part, the
    token of the old answer must still be about as likely as the one chosen now (`_NEAR_TIE`); what a server says whose
    weights did not come back is not. One completion. Raises ClientError.
    """
    tokens, wanted = 16, {"model": model, "prompt": TEST_PROMPT, "temperature": 0.0}
    try:
        answer = ask(f"{url}/v1/completions", wanted | {"max_tokens": tokens, "logprobs": 5}, timeout=30)
        now, told = str(answer["choices"][0]["text"]), answer["choices"][0].get("logprobs") or {}
    except (ClientError, LookupError, TypeError, AttributeError) as error:
        if _NOT_A_NUMBER in str(error):
            return "its log-probabilities are no numbers"
        now, told = complete(url, model, tokens=tokens, timeout=30).completion.text, {}  # it gives no log-probabilities
    try:
        same = now == before or _parts_at_a_tie(before, told["tokens"], told["top_logprobs"])
    except (LookupError, TypeError, AttributeError, ValueError):
        same = _FIRST_WORD.findall(now)[:1] == _FIRST_WORD.findall(before)[:1]
    return "" if same else f"it answered “{printable(before, 60)}” at its start and “{printable(now, 60)}” now"


def _parts_at_a_tie(before: str, tokens: list[str], likely: list[dict[str, float]]) -> bool:
    """Does the old answer go on, where it parts from the new `tokens`, with one that is about as likely?

    likely: per token its log-probability and those of the likeliest, by text. White space does not count: tokenizers
    differ in whose it is.
    """
    rest = "".join(before.split())
    for token, others in zip(tokens, likely, strict=True):
        word = "".join(token.split())
        if not rest.startswith(word):
            ties = ("".join(other.split()) for other, p in others.items() if p >= others[token] - _NEAR_TIE)
            return any(tie and rest.startswith(tie) for tie in ties)
        rest = rest[len(word) :]
        if not rest:
            break
    return bool(tokens)
