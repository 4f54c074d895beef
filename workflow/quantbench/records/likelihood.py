"""Token likelihoods as they are kept: texts that the baseline wrote, and what a server says of each of their tokens."""

from __future__ import annotations

import base64
import zlib
from typing import Final, Literal, NamedTuple

import numpy as np

from quantbench.records.base import Record

TOP: Final = 20
"""Most likely tokens that are kept of each position: as many as vLLM gives without a flag (`--max-logprobs`)."""


class Likely(NamedTuple):
    """What a server says of the positions of a text.

    ids, logprobs: positions x TOP, uint32 and float32, the most likely first; written: positions, the logprob of the
    token that stands there. A token beyond the first TOP is in `written` only, so that the lists know nothing of what
    was drawn.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    written: np.ndarray


class WrittenText(Record, frozen=True, kw_only=True):
    """A text that the baseline wrote at temperature 1. asked: hash of the conversation, the length and the seed;
    token_ids: what was drawn, an end-of-text token included.
    """

    id: str
    asked: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: str


class ScoredText(Record, frozen=True, kw_only=True):
    """What one server says of the tokens of a written text. sha256: of the token ids that were scored, prompt and text;
    likely: `Likely`, packed: three little-endian arrays one after the other, through zlib and base64.
    """

    id: str
    sha256: str
    likely: str


class Likelihoods(Record, frozen=True, kw_only=True):
    """`suites/{suite}/{model}.json` of a likelihood suite.

    texts: of the baseline alone, who wrote them; scored: one per text; again: the baseline's second look at the same
    texts, with another number of requests in flight (again_concurrency).
    """

    role: Literal["baseline", "variant"]
    tokens: int
    concurrency: int
    system_fingerprint: str | None = None
    texts: tuple[WrittenText, ...] = ()
    scored: tuple[ScoredText, ...]
    again: tuple[ScoredText, ...] = ()
    again_concurrency: int | None = None


def pack(likely: Likely) -> str:
    """`ScoredText.likely` of the arrays."""
    parts = (likely.ids.astype("<u4"), likely.logprobs.astype("<f4"), likely.written.astype("<f4"))
    return base64.b64encode(zlib.compress(b"".join(part.tobytes() for part in parts), 6)).decode()


def unpack(text: str) -> Likely:
    """The arrays of `ScoredText.likely`. Raises ValueError for what is none."""
    try:
        content = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from None
    n, rest = divmod(len(content), 4 * (2 * TOP + 1))
    if rest:
        raise ValueError(f"{len(content)} bytes are no positions of {TOP} tokens")
    ids = np.frombuffer(content, "<u4", n * TOP).reshape(n, TOP)
    logprobs = np.frombuffer(content, "<f4", n * TOP, 4 * n * TOP).reshape(n, TOP)
    return Likely(ids, logprobs, np.frombuffer(content, "<f4", n, 8 * n * TOP))
