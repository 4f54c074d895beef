"""Fields of a completion request that vLLM understands beside OpenAI's own."""

from __future__ import annotations

from typing import Any


def sampling(max_tokens: int, *, ignore_eos: bool) -> dict[str, Any]:
    """Every sampling field is set, as a default belongs to the server or the model; token ids are sent back."""
    fields: dict[str, Any] = {"top_k": 0, "min_p": 0, "repetition_penalty": 1, "return_token_ids": True}
    if ignore_eos:
        # min_tokens as well: ignore_eos alone only goes on behind an EOS that is really emitted.
        fields |= {"ignore_eos": True, "min_tokens": max_tokens}
    return fields


USAGE = {"continuous_usage_stats": True}
"""In `stream_options`: usage with each chunk."""


def own_cache(salt: str) -> dict[str, str]:
    """Keep a request's prefix out of every other request's cache."""
    return {"cache_salt": salt}
