"""The bytes of one streamed reply, with their arrival times, become one `RequestRecord`.

The rule is that nothing but a whole, clean stream is a success: tokens, a finish_reason, usage, `[DONE]`,
the end of the HTTP body, and no error anywhere, not even behind `[DONE]`. Engines report a crash *inside* a
stream whose status is 200, and a client that reads only `choices` counts such a reply as a fast success.

Source of the format: WHATWG HTML standard, section 9.2 "Server-sent events"; OpenAI's streamed completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import structs

from quantbench.client.arrivals import Arrivals, Message, arrivals
from quantbench.client.records import Exchange
from quantbench.records.request import RequestRecord

UNTERMINATED = b"\0unterminated"
UNKNOWN_FIELD = b"\0unknown-field"
_OURS = frozenset((b"", b"message", UNTERMINATED, UNKNOWN_FIELD))
_SAYS = frozenset((
    "content", "reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thought", "text",
    "refusal", "tool_calls", "function_call", "audio", "images",
))  # fmt: skip
"""What of a chat delta is made of tokens, by the names that servers use; all else accompanies them."""
_ERRORS = ("error", "err_", "exception", "traceback")
_GIVEN_UP = frozenset(("error", "abort", "aborted", "cancelled", "canceled", "timeout"))
"""Finish reasons of a reply that its server did not bring to its end, in whatever case they are written."""
_LABELS = frozenset(("id", "type", "index", "role", "format", "signature"))
_FIELDS = (b"data", b"event", b"id", b"retry", b":")
_LF, _CR, _BACKSLASH = b"\n\r\\"  # as numbers: bytes are searched for a number ten times faster than for bytes
_BLANK = frozenset((b"\n", b"\r\n", b"\r"))
_MAX_COUNT = 1 << 53  # beyond it a count is nonsense, and would not fit a parquet column
_Count = Annotated[int, msgspec.Meta(ge=0, lt=_MAX_COUNT)]


class _Tokens(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A usage that counts tokens, and nothing else."""

    prompt_tokens: _Count
    total_tokens: _Count
    completion_tokens: _Count


@dataclass(slots=True)
class _Seen:
    """What the stream has told so far."""

    problem: str | None = None
    detail: str = ""
    done: bool = False
    usage: dict[str, Any] | _Tokens | None = None
    finish_reason: str | None = None
    fingerprint: str | None = None
    messages: list[Message] = field(default_factory=list)

    def fail(self, problem: str, detail: str) -> None:
        """Keep the first problem, except that an error the server names outranks a mere oddity."""
        if self.problem is None or (problem == "in_band_error" and self.problem != problem):
            self.problem, self.detail = problem, detail[:500]


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    index: Literal[0]
    text: str | None = None
    delta: _Delta | None = None
    logprobs: None = None
    finish_reason: None = None
    stop_reason: None = None
    token_ids: list[int] | None = None
    prompt_token_ids: None = None
    prompt_logprobs: None = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A chunk of the usual kind: text of the one choice, counts, and no key that may mean anything else."""

    choices: list[_Choice]
    id: str
    object: Literal["text_completion", "chat.completion.chunk"]
    created: int
    model: str
    usage: _Tokens | None = None
    system_fingerprint: str | None = None


_plain = msgspec.json.Decoder(_Plain).decode


def events(parts: Sequence[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (index of the read that completed it, event name, data) per server-sent event.

    Reads may split anywhere, lines end in LF, CR LF or CR, data may span lines. What the standard would
    silently drop gets a name of its own: an event without its blank line, a line that is no known field. Only a last
    [DONE] needs no blank line: nothing can be missing behind it.
    """
    whole = _whole(parts)
    return _lines(parts) if whole is None else iter(whole)


def _whole(parts: Sequence[bytes]) -> list[tuple[int, bytes, bytes]] | None:
    """The events of a stream that is usual in all its reads: each is made of whole events of one data line; else None.

    The same as `_lines` gives, at half its cost.
    """
    found = []
    for read, part in enumerate(parts):
        if not part.startswith(b"data: ") or not part.endswith(b"\n\n") or _CR in part:
            return None
        inner = part[6:-2]
        if part.count(_LF) == 2:  # one event, as most reads bring
            found.append((read, b"", inner))
            continue
        for data in inner.split(b"\n\ndata: "):
            if _LF in data:
                return None
            found.append((read, b"", data))
    return [event for event in found if event[2]]


def _lines(parts: Sequence[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    """The events of any stream, line by line."""
    body = b"".join(parts)
    ends = list(accumulate(map(len, parts)))
    read = 0
    offset = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    data: list[bytes] = []
    name = b""
    cut = False
    for line in body[offset:].splitlines(keepends=True):
        offset += len(line)
        if line.startswith(b"data: "):
            data.append(line[6:].rstrip(b"\r\n"))
        elif line in _BLANK:
            while ends[read] < offset:
                read += 1
            payload = data[0] if len(data) == 1 else b"\n".join(data)
            if payload or name == b"error":
                yield read, name, payload
            data, name = [], b""
        elif not line.startswith(b":"):
            key, value = _field(line)
            cut = key == b"data" and value == line
            if key == b"data":
                data.append(value)
            elif key == b"event":
                name = value
            elif key == UNKNOWN_FIELD:
                yield read, UNKNOWN_FIELD, value
    if data or name:
        whole = name == b"error" or (data == [b"[DONE]"] and not cut)
        yield len(parts) - 1, name if whole else UNTERMINATED, b"\n".join(data)


def _field(line: bytes) -> tuple[bytes, bytes]:
    """(field, value) of a line. A last line without its end is data that stays unterminated."""
    text = line.rstrip(b"\r\n")
    key, _, value = text.partition(b":")
    if key in {b"data", b"event", b"id", b"retry"}:
        return key, value.removeprefix(b" ")
    return (b"data", text) if text == line else (UNKNOWN_FIELD, text)


def record(exchange: Exchange, *, expected_tokens: int | None = None, zero_ns: int = 0) -> RequestRecord:
    """Judge one exchange; times become relative to `zero_ns`.

    With `expected_tokens` (what `ignore_eos` promises) another count is a failure.
    """
    seen = _Seen()
    if exchange.status == 200:
        for read, name, data in events(exchange.parts):
            if name or seen.done or not _take_plain(seen, read, data):
                _take(seen, read, name, data)
    usage = structs.asdict(seen.usage) if isinstance(seen.usage, _Tokens) else seen.usage or {}
    completion = _count(usage.get("completion_tokens"))
    details = usage.get("prompt_tokens_details")
    came = arrivals(seen.messages, completion)
    reason, detail = _reason(exchange, seen, came, completion, expected_tokens)
    times = [exchange.times[read] for read in came.reads]
    return RequestRecord(
        index=exchange.index,
        prompt_id=exchange.prompt_id,
        sent_ns=exchange.sent_ns - zero_ns if exchange.sent_ns is not None else None,
        first_ns=times[0] - zero_ns if times else None,
        last_ns=times[-1] - zero_ns if times else None,
        end_ns=exchange.end_ns - zero_ns if exchange.end_ns is not None else None,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=completion,
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
        chunks=came.chunks,
        first_chunk_tokens=came.first_tokens,
        reads=len(times),
        gaps_us=tuple((b - a + 500) // 1000 for a, b in pairwise(times)),
        ok=reason is None,
        reason=reason,
        http_status=exchange.status,
        finish_reason=seen.finish_reason,
        fingerprint=seen.fingerprint,
        detail=detail or None,
    )


def _take_plain(seen: _Seen, read: int, data: bytes) -> bool:
    """Fold one event if it is a chunk of the usual kind, as nearly all of a stream are: a quick way through `_take`.

    Whatever is taken here `_take` would take in the same way (tests/unit/client/test_sse.py). Escapes are left to it,
    as the two parsers of JSON differ in what they make of half a character.
    """
    if _BACKSLASH in data and b"\\u" in data:
        return False
    try:
        chunk = _plain(data)
    except (msgspec.DecodeError, ValueError):
        return False
    if len(chunk.choices) != 1:
        return False
    choice, usage = chunk.choices[0], chunk.usage
    total = None
    if usage is not None:
        seen.usage, total = usage, usage.completion_tokens
    if seen.fingerprint is None:
        seen.fingerprint = chunk.system_fingerprint
    output, delta = choice.text, choice.delta
    if not output and delta is not None:
        output = delta.content or delta.reasoning or delta.reasoning_content
    seen.messages.append(Message(read, bool(output), len(choice.token_ids or ()), total))
    return True


def _take(seen: _Seen, read: int, name: bytes, data: bytes) -> None:
    """Fold one event into `seen`. An event with a name of its own (`ping`) counts only if it is a chunk or an error."""
    if data.strip() == b"[DONE]" and name not in {b"error", UNTERMINATED, UNKNOWN_FIELD}:
        seen.done = True
        return
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        message = None
    if b"error" in name.lower() or (type(message) is dict and _is_error(message)):
        seen.fail("in_band_error", data.decode(errors="replace"))
    elif name not in _OURS and not (type(message) is dict and "choices" in message):
        return
    elif name in (UNTERMINATED, UNKNOWN_FIELD) or type(message) is not dict:
        # An unterminated event is not worse than a truncated stream, unless the stream claims to be whole.
        if name != UNTERMINATED or seen.done:
            seen.fail("bad_stream", data.decode(errors="replace"))
    elif seen.done:
        seen.fail("bad_stream", "data after [DONE]")
    else:
        _take_chunk(seen, read, message)


def _take_chunk(seen: _Seen, read: int, message: dict[str, Any]) -> None:
    """Fold one well-formed, error-free chunk: usage, finish_reason, and what it tells of tokens."""
    usage, choices = message.get("usage"), message.get("choices")
    total = None
    if seen.fingerprint is None and type(message.get("system_fingerprint")) is str:
        seen.fingerprint = message["system_fingerprint"]  # vLLM: on the chunk of the usage only
    if type(usage) is dict:
        seen.usage = usage
        total = _count(usage.get("completion_tokens"))
    if not choices:
        if usage is None and "choices" not in message:
            seen.fail("bad_stream", "a chunk with neither choices nor usage")
        return
    choice = choices[0] if type(choices) is list and len(choices) == 1 else None
    if type(choice) is not dict or choice.get("index", 0) != 0:
        seen.fail("bad_stream", "more or other than the one choice that was asked for")
        return
    finish = choice.get("finish_reason")
    if finish and type(finish) is str:
        seen.finish_reason = finish
    ids = choice.get("token_ids")
    seen.messages.append(Message(read, _has_output(choice), len(ids) if type(ids) is list else 0, total))


def _has_output(choice: dict[str, Any]) -> bool:
    """Does a chunk carry output: completions' `text`, or in a chat delta text, reasoning, a tool call, a refusal?

    What providers add to the chunk of the role (names, ids, fields of their own) is none, nor is an empty part.
    """
    text = choice.get("text")
    if text and isinstance(text, str | list):
        return True
    delta = choice.get("delta")  # some have an empty `text` beside it
    if type(delta) is not dict:
        return False
    return any(key in _SAYS and _says(value) for key, value in delta.items())


def _says(value: Any) -> bool:
    """Is there any text in a value of a delta, however it is wrapped?"""
    if isinstance(value, list):
        return any(map(_says, value))
    if isinstance(value, dict):
        return any(_says(inner) for key, inner in value.items() if key not in _LABELS)
    return isinstance(value, str) and value != ""


def _is_error(message: dict[str, Any]) -> bool:
    """True for every shape in which servers report an error inside a stream with status 200."""
    if message.get("error") is not None or message.get("errors"):
        return True
    if message.get("object") == "error" or message.get("type") == "error":
        return True
    choices = message.get("choices")
    if not choices:
        named = any(value and key.lower().startswith(_ERRORS) for key, value in message.items())
        status = message.get("status_code") or message.get("status") or message.get("code")
        refused = type(status) is int and status >= 400
        return named or refused or (message.get("message") is not None and message.get("code") is not None)
    for choice in choices if type(choices) is list else ():
        if type(choice) is not dict:
            continue
        if str(choice.get("finish_reason")).lower() in _GIVEN_UP or choice.get("error") is not None:
            return True
        delta = choice.get("delta")
        if type(delta) is dict and delta.get("error") is not None:
            return True
    return False


def _count(value: Any) -> int | None:
    """A token count, or None if the server sent something else."""
    return value if type(value) is int and 0 <= value < _MAX_COUNT else None


_NO_USAGE = (
    "the server sends no usage, so nobody knows its tokens: have it, or the proxy before it, honour "
    "`stream_options: {include_usage: true}`, which every request has"
)


def _reason(
    exchange: Exchange, seen: _Seen, came: Arrivals, completion: int | None, expected: int | None
) -> tuple[str | None, str]:
    """The reason code of a failure and its detail; (None, "") for a success. The server's word goes first."""
    body = b"".join(exchange.parts) if exchange.status != 200 or not came.chunks else b""
    excerpt = exchange.detail or body[:500].decode(errors="replace").strip()
    status = exchange.status
    if status is not None and status >= 400:
        return ("http_4xx" if status < 500 else "http_5xx"), excerpt or f"HTTP {status}, without a word"
    if seen.problem == "in_band_error" or (status == 200 and _error_body(body)):
        return "in_band_error", seen.detail or excerpt or "the stream has an error event, and no word of it"
    if exchange.ending != "complete":
        return ("bad_stream" if exchange.ending == "bad_http" else exchange.ending), excerpt
    if status != 200 or seen.problem:
        return "bad_stream", seen.detail or excerpt or f"HTTP {status}"
    if not seen.done:
        stream = came.chunks or not body.strip() or body.lstrip().startswith(_FIELDS)
        return ("truncated" if stream else "bad_stream"), excerpt or "the stream ended without [DONE]"
    if came.chunks and completion == 0:
        return "token_count", f"text came in {came.chunks} chunks, and usage says 0 tokens"
    if not came.chunks:
        return "no_tokens", "the stream is whole and has no text" if completion is None else (
            f"usage says {completion} tokens, and no text came"
        )
    if seen.finish_reason is None:
        return "no_finish_reason", "the stream has text and [DONE], and no finish_reason"
    if completion is None:
        return "no_usage", _NO_USAGE
    if expected is not None and completion != expected:
        return "token_count", f"{completion} tokens instead of {expected}"
    if came.problem:
        return "token_count", came.problem
    return None, ""


def _error_body(body: bytes) -> bool:
    """A plain JSON error where a stream should be."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return type(message) is dict and _is_error(message)
