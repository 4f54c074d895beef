"""The stream parser: nothing but a whole, clean stream is a success, however the bytes are cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.client import sse, tables_io
from quantbench.client.records import Exchange
from quantbench.client.sse import events, record
from quantbench.records import request
from quantbench.records.request import RequestRecord

QUICK = settings(max_examples=80, deadline=None)
TIMING = {"first_ns": None, "last_ns": None, "end_ns": None, "reads": 0, "first_chunk_tokens": 0, "gaps_us": ()}


def message(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def usage(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}


def chunk(total: int, *, tokens: int = 1, finish: str | None = None, chat: bool = False, **extra: Any) -> bytes:
    text = "é w" * tokens
    content: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
    choice = {"index": 0, **content, "finish_reason": finish, "token_ids": [5] * tokens}
    return message(choices=[choice], usage=usage(total), **extra)


ROLE = message(
    choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], usage=usage(0)
)
ERROR = b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'
DONE = b"data: [DONE]\n\n"


def stream(count: int = 5, *, chat: bool = False) -> list[bytes]:
    """A clean stream, one message per part."""
    body = [chunk(i, finish="length" if i == count else None, chat=chat) for i in range(1, count + 1)]
    return ([ROLE] if chat else []) + body + [message(choices=[], usage=usage(count), system_fingerprint="fp"), DONE]


def judge(parts: list[bytes], *, expected: int | None = None, status: int | None = 200, **over: Any) -> RequestRecord:
    exchange = Exchange(0, "p", 0, 10_000, [100 * (i + 1) for i in range(len(parts))], parts, status, "complete")
    return record(replace(exchange, **over), expected_tokens=expected)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(p % (len(body) + 1) for p in places)})
    return [body[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("chat", [False, True])
def test_a_clean_stream(chat: bool) -> None:
    seen = judge(stream(5, chat=chat), expected=5)
    assert (seen.ok, seen.reason, seen.http_status, seen.finish_reason) == (True, None, 200, "length")
    assert (seen.prompt_tokens, seen.completion_tokens, seen.chunks, seen.first_chunk_tokens) == (7, 5, 5, 1)
    first = 200 if chat else 100  # the role chunk is no token
    assert (seen.first_ns, seen.last_ns, seen.reads) == (first, first + 400, 5)
    assert seen.fingerprint == "fp"


def test_an_empty_text_beside_a_delta_hides_no_output() -> None:
    def said(word: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "text": "", "delta": {"reasoning": word}, "finish_reason": finish}
        return message(choices=[choice], id="x", object="chat.completion.chunk", created=1, model="m")

    seen = judge([said("a"), said("b", "stop"), message(choices=[], usage=usage(2)), DONE], expected=2)
    assert (seen.reason, seen.chunks, seen.first_ns) == (None, 2, 100)


def test_a_done_may_have_blanks_as_any_json_may() -> None:
    assert judge([*stream()[:-1], b"data: [DONE] \n\n"]).ok


def test_tokens_are_credited_per_read() -> None:
    parts = [chunk(4, tokens=4) + chunk(6, tokens=2), chunk(8, tokens=2, finish="stop"), *stream(8)[-2:]]
    seen = judge(parts)
    assert (seen.first_chunk_tokens, seen.chunks, seen.reads, seen.completion_tokens) == (6, 3, 2, 8)


def test_gaps_are_between_reads_that_brought_tokens() -> None:
    parts = stream(5, chat=True)  # the role, five tokens, usage, [DONE]
    parts[2:4] = [parts[2] + parts[3]]
    times = [1_000_000 * t for t in (1, 2, 5, 9, 15, 16, 17)]
    seen = judge(parts, expected=5, times=times)
    assert (seen.ok, seen.reads, seen.gaps_us) == (True, 4, (3000, 4000, 6000))
    assert judge([b"".join(stream(5))]).gaps_us == ()
    assert judge(stream(3), times=[0, 1499, 2000, 3000, 4000]).gaps_us == (1, 1)


def plain(finish: str | None = None, **fields: Any) -> bytes:
    """A chunk that tells nothing of tokens."""
    return message(choices=[{"index": 0, "text": "" if finish else "two words", "finish_reason": finish}], **fields)


LAST_ID = message(choices=[{"index": 0, "text": "", "finish_reason": "stop", "token_ids": [2]}])
CREDITED = {
    "by usage where ids are absent": (
        [plain(usage=usage(3)), plain(usage=usage(4)), plain("stop", usage=usage(5)), *stream(5)[-2:]], (3, 3, 100, 300)
    ),
    "evenly where nothing is told": ([plain()] * 4 + [plain("stop"), *stream(16)[-2:]], (4, 4, 100, 400)),
    "an EOS without text by its ids": ([chunk(1), LAST_ID, *stream(2)[-2:]], (2, 1, 100, 200)),
    "usage on the finish chunk": ([plain(), plain(), plain("stop", usage=usage(4)), DONE], (2, 2, 100, 200)),
}  # fmt: skip
"""Parts of a stream, and (chunks, tokens of the first, when the first and the last came); the rest: test_arrivals."""


@pytest.mark.parametrize("name", CREDITED)
def test_tokens_are_credited(name: str) -> None:
    parts, expected = CREDITED[name]
    seen = judge(parts)
    assert seen.ok
    assert (seen.chunks, seen.first_chunk_tokens, seen.first_ns, seen.last_ns) == expected


def delta(**fields: Any) -> bytes:
    return message(choices=[{"index": 0, "delta": fields, "finish_reason": None}])


@pytest.mark.parametrize(
    "output",
    [
        {"content": "x"},
        {"content": None, "reasoning_content": "x"},
        {"refusal": "no"},
        {"function_call": {"arguments": "{"}},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
    ],
)
def test_whatever_a_delta_carries_is_output_but_for_the_role(output: dict[str, Any]) -> None:
    role = delta(role="assistant", content="", tool_calls=[], refusal=None)
    last = message(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    seen = judge([role, delta(**output), delta(content="x"), last, *stream(2)[-2:]])
    assert (seen.ok, seen.first_ns, seen.last_ns, seen.chunks) == (True, 200, 300, 2)


def test_usage_on_the_finish_chunk_moves_no_time() -> None:
    def plain(finish: str | None = None, **fields: Any) -> bytes:
        return message(choices=[{"index": 0, "text": "" if finish else "two words", "finish_reason": finish}], **fields)

    seen = judge([plain(), plain(), plain("length", usage=usage(4)), DONE], expected=4)
    assert (seen.ok, seen.first_ns, seen.last_ns, seen.first_chunk_tokens, seen.chunks) == (True, 100, 200, 2, 2)


HUGE = message(choices=[], usage=usage(0), more="x" * 10**6)
HTML = b"<html><body>Bad gateway</body></html>"
CODED = message(code=500, message="internal", choices=[])
FAILURES: dict[str, tuple[list[bytes], dict[str, Any], str]] = {
    "error in band": ([*stream()[:2], ERROR, DONE], {}, "in_band_error"),
    "error, then cut": ([*stream()[:2], ERROR], {"ending": "disconnected"}, "in_band_error"),
    "error after [DONE]": ([*stream(), ERROR], {}, "in_band_error"),
    "error after [DONE], unterminated": ([*stream(), ERROR.rstrip()], {}, "in_band_error"),
    "error as an event": ([*stream()[:2], b"event: error\ndata: oh no\n\n", *stream()[2:]], {}, "in_band_error"),
    "error event without data": ([b"event: error\n\n", *stream()], {}, "in_band_error"),
    "object error": ([message(object="error", message="no"), *stream()], {}, "in_band_error"),
    "bare error line": ([*stream()[:2], b'{"error": "x"}\n', *stream()[2:]], {}, "in_band_error"),
    "finish_reason error": ([chunk(1, finish="error"), *stream()[1:]], {}, "in_band_error"),
    "finish_reason abort": ([chunk(1, finish="abort"), *stream()[1:]], {}, "in_band_error"),
    "finish_reason cancelled": ([chunk(1, finish="CANCELLED"), *stream()[1:]], {}, "in_band_error"),
    "error beside choices": ([chunk(1, error={"message": "x"}), *stream()[1:]], {}, "in_band_error"),
    "code and message beside no choices": ([*stream()[:2], CODED, *stream()[2:]], {}, "in_band_error"),
    "errors": ([*stream()[:2], message(errors=[{"message": "x"}], choices=[]), *stream()[2:]], {}, "in_band_error"),
    "error in a delta": ([delta(error="x"), *stream()], {}, "in_band_error"),
    "200 with a JSON error": ([b'{"error": {"message": "x"}}'], {}, "in_band_error"),
    "200 with pretty JSON error": ([b'{\n "error": {\n "message": "x"}\n}\n'], {}, "in_band_error"),
    "200 with a JSON reply": ([b'{"choices": [{"text": "hi"}], "usage": null}'], {}, "bad_stream"),
    "200 with HTML": ([HTML], {}, "bad_stream"),
    "200 and nothing": ([], {}, "truncated"),
    "HTTP 500 JSON": ([b'{"error": {}}'], {"status": 500}, "http_5xx"),
    "HTTP 502 HTML": ([HTML], {"status": 502}, "http_5xx"),
    "HTTP 429 empty": ([], {"status": 429}, "http_4xx"),
    "HTTP 404": ([b"{}"], {"status": 404}, "http_4xx"),
    "HTTP 302": ([], {"status": 302}, "bad_stream"),
    "HTTP 500 with a clean stream": (stream(), {"status": 500}, "http_5xx"),
    "never connected": ([], {"status": None, "ending": "connect", "sent_ns": None}, "connect"),
    "hang": (stream()[:3], {"ending": "timeout"}, "timeout"),
    "reset": (stream()[:3], {"ending": "disconnected"}, "disconnected"),
    "reset after [DONE]": (stream(), {"ending": "disconnected"}, "disconnected"),
    "cancelled": (stream()[:3], {"ending": "cancelled"}, "cancelled"),
    "bad HTTP": (stream()[:3], {"ending": "bad_http"}, "bad_stream"),
    "truncated": (stream()[:3], {}, "truncated"),
    "no [DONE]": (stream()[:-1], {}, "truncated"),
    "no usage": ([c.replace(b"usage", b"wsage") for c in stream()], {}, "no_usage"),
    "usage null": ([plain(), plain("stop", usage=None), DONE], {}, "no_usage"),
    "usage of strings": ([plain(), plain("stop", usage={"completion_tokens": "1"}), DONE], {}, "no_usage"),
    "no finish_reason": ([chunk(1), *stream(1)[1:]], {}, "no_finish_reason"),
    "empty finish_reason": ([chunk(1, finish=""), *stream(1)[1:]], {}, "no_finish_reason"),
    "no tokens": ([message(choices=[], usage=usage(0)), DONE], {}, "no_tokens"),
    "role only": ([ROLE, message(choices=[], usage=usage(0)), DONE], {}, "no_tokens"),
    "two choices": ([message(choices=[{"index": 1, "text": "x"}]), *stream()], {}, "bad_stream"),
    "bad JSON": ([b"data: {oops\n\n", *stream()], {}, "bad_stream"),
    "bad UTF-8": ([b'data: {"choices": "\xff\xfe"}\n\n', *stream()], {}, "bad_stream"),
    "JSON that is no object": ([b"data: 17\n\n", *stream()], {}, "bad_stream"),
    "unknown object": ([message(hello="world"), *stream()], {}, "bad_stream"),
    "data after [DONE]": ([*stream(), chunk(6)], {}, "bad_stream"),
    "[DONE] without its field": ([*stream()[:-1], b"[DONE]\n\n"], {}, "bad_stream"),
    "text between": ([*stream()[:2], b"Internal Server Error\n\n", *stream()[2:]], {}, "bad_stream"),
    "token count": (stream(4), {"expected": 5}, "token_count"),
    "more token ids than usage": ([*stream(5)[:-2], *stream(4)[-2:]], {"expected": 4}, "token_count"),
    "fewer token ids than usage": ([*stream(4)[:-2], *stream(5)[-2:]], {"expected": 5}, "token_count"),
}


@pytest.mark.fault(
    "a stream ends early, has an error within, no usage, too few tokens, broken JSON or broken text",
    "a failed request with its reason, never a success",
)
@pytest.mark.parametrize("name", FAILURES)
def test_what_is_not_a_success(name: str) -> None:
    parts, over, reason = FAILURES[name]
    seen = judge(parts, **over)
    assert (seen.ok, seen.reason) == (False, reason)
    if over.get("ending", "complete") == "complete":
        assert seen.detail, "what the transport does not tell, the stream does"


def test_every_reason_of_a_failure_is_explained_and_no_other() -> None:
    given = {reason for _, _, reason in FAILURES.values()} | {judge([], ending="too_long").reason}
    assert given == set(request.FAILURES)


def test_what_the_server_said_is_kept() -> None:
    assert "EngineCore died" in (judge([*stream()[:2], ERROR]).detail or "")
    assert "Bad gateway" in (judge([HTML], status=502).detail or "")


@pytest.mark.parametrize(
    "noise",
    [
        b": ping\n\n",
        b"\n\n\n",
        b"id: 7\nretry: 100\n\n",
        b"event: message\n\n",
        b"data:\n\n",
        b"data\n\n",
        HUGE,
    ],
)
def test_what_the_standard_allows_changes_nothing(noise: bytes) -> None:
    body = stream()
    assert judge([body[0], noise, *body[1:]]).ok


def said(name: str, first: dict[str, Any]) -> list[bytes]:
    """A chat stream: the first chunk, at 100, has the role and `first`, and the second, at 200, says `name`."""
    start = delta(role="assistant", **{"content": "", **first})
    last = message(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    return [start, delta(**{name: "x"}), delta(content="y"), last, *stream(2)[-2:]]


SILENT: dict[str, dict[str, Any]] = {
    "fields of the provider": {"provider_specific_fields": {"cache": "x"}, "name": "assistant-1"},
    "a null content": {"content": None, "tool_calls": None, "reasoning_content": None},
    "empty parts": {"content": [{"type": "text", "text": ""}], "reasoning": ""},
    "ids and annotations": {"id": "m-1", "annotations": [{"type": "url_citation"}], "audio": {"id": "a"}},
    "an empty tool call": {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {}}]},
    "a signature": {"thinking_signature": "abc", "thinking_blocks": [{"type": "thinking", "signature": "abc"}]},
    "a padding": {"obfuscation": "x1y2", "extra_fields": {"trace": "t"}, "padding": "aaaa"},
}


@pytest.mark.parametrize("name", SILENT)
def test_what_accompanies_the_role_starts_nothing(name: str) -> None:
    seen = judge(said("content", SILENT[name]))
    assert (seen.ok, seen.first_ns, seen.chunks) == (True, 200, 2)


SPOKEN: dict[str, Any] = {
    "reasoning_content": "x", "reasoning": "x", "thinking": " ", "refusal": "no",
    "content": [{"type": "text", "text": "x"}],
    "reasoning_details": [{"type": "reasoning.text", "text": "x"}], "audio": {"id": "a", "transcript": "x"},
    "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}],
}  # fmt: skip


@pytest.mark.parametrize("name", SPOKEN)
def test_the_first_token_may_be_of_any_kind(name: str) -> None:
    seen = judge(said("content", {name: SPOKEN[name]}))
    assert (seen.ok, seen.first_ns, seen.chunks) == (True, 100, 3)


SWALLOWED = [chunk(0, tokens=0, chat=True), chunk(2, chat=True), chunk(3, chat=True), chunk(7, chat=True)]


def test_token_ids_that_a_parser_swallowed_are_told_by_running_totals() -> None:
    end = chunk(8, finish="length", chat=True)
    seen = judge([*SWALLOWED, end, *stream(8)[-2:]], expected=8)
    assert (seen.ok, seen.completion_tokens, seen.chunks, seen.first_chunk_tokens) == (True, 8, 4, 2)
    at_once = judge([chunk(5, chat=True), chunk(6, finish="stop", chat=True), *stream(6)[-2:]])
    assert (at_once.ok, at_once.first_chunk_tokens) == (True, 5)
    # Totals that do not run, or end elsewhere, explain nothing.
    assert judge([*SWALLOWED[1:], chunk(3, finish="stop", chat=True), *stream(7)[-2:]]).reason == "token_count"
    assert judge([*SWALLOWED, end, *stream(9)[-2:]]).reason == "token_count"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r", b"\n\n"])
@pytest.mark.parametrize("done", [b"data: [DONE]", b"data:[DONE]", b"event: message\ndata: [DONE]"])
def test_the_last_event_of_a_whole_body_needs_no_blank_line(done: bytes, end: bytes) -> None:
    assert judge([*stream()[:-1], done + end], expected=5).ok
    assert judge([*stream()[:-1], done + end], ending="disconnected").reason == "disconnected"


@pytest.mark.parametrize("end", [b"[DONE]", b"data: [DON", b"data: [DONE]x", b"data: [DONE]\ndata: 1", b": [DONE]"])
def test_what_is_not_quite_done_is_truncated(end: bytes) -> None:
    assert judge([*stream()[:-1], end]).reason in ("truncated", "bad_stream")


def test_a_stream_without_done_says_so() -> None:
    seen = judge(stream()[:-1])
    assert (seen.reason, seen.detail) == ("truncated", "the stream ended without [DONE]")


ERRORS: dict[str, bytes] = {
    "type and message beside null choices": message(
        id="c", choices=None, error_type="BadRequestError", error_message="context exceeded", status_code=400
    ),
    "a status without more": message(choices=[], status_code=503, detail="context exceeded"),
    "a code without choices": message(code=429, detail="context exceeded"),
    "a list of errors": message(errors=["context exceeded"]),
    "an exception": message(exception="context exceeded"),
    "an event of a server's own": b"event: server_error\ndata: context exceeded\n\n",
    "an error in another event": b'event: ping\ndata: {"error": "context exceeded"}\n\n',
    "an error, then the end": b'event: error\ndata: {"message": "context exceeded"}',
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("rest", [[DONE], []], ids=["done", "closed"])
def test_an_error_in_any_shape_keeps_the_servers_words(name: str, rest: list[bytes]) -> None:
    seen = judge([*stream(chat=True)[:3], ERRORS[name], *rest])
    assert (seen.ok, seen.reason) == (False, "in_band_error")
    assert "context exceeded" in (seen.detail or "")


NO_ERRORS = [
    message(choices=[], usage=None, error=None, error_message="", code=None),
    message(choices=None, usage=usage(0), errors=[]),
    message(choices=[], prompt_filter_results=[{"prompt_index": 0}], code=200, status="ok"),
    message(id="c", choices=None, object="chat.completion.chunk"),
]


@pytest.mark.parametrize("noise", NO_ERRORS)
def test_a_chunk_that_says_that_there_is_no_error_is_none(noise: bytes) -> None:
    body = stream(chat=True)
    assert judge([noise, *body[:2], noise, *body[2:]], expected=5).ok


EVENTS = [
    b'event: ping\ndata: {"type": "ping"}\n\n', b"event: keep-alive\ndata: still here\n\n", b"event: ping\n\n",
    b"event: metadata\ndata: [1, 2]\n\n", b'event: usage\ndata: {"tokens": 3}\n\n', b"event: ping\r\ndata:\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("noise", EVENTS)
def test_a_named_event_that_is_no_chunk_carries_nothing(noise: bytes) -> None:
    body = stream()
    seen = judge([noise, *body[:3], noise, *body[3:], noise], expected=5)
    assert (seen.ok, seen.first_ns, seen.chunks) == (True, 200, 5)


def test_text_of_which_usage_knows_nothing_is_a_failure_in_words() -> None:
    for chat in (False, True):
        parts = [delta(content="x"), delta(content="x")] if chat else [plain(), plain()]
        seen = judge([*parts, plain("length"), *stream(0)[-2:]])
        assert (seen.ok, seen.reason) == (False, "token_count")
        assert seen.detail == "text came in 2 chunks, and usage says 0 tokens"
    silent = judge([delta(role="assistant"), plain("stop"), *stream(5)[-2:]])
    assert (silent.reason, silent.detail) == ("no_tokens", "usage says 5 tokens, and no text came")


def test_named_events_multi_line_data_and_a_byte_order_mark() -> None:
    body = stream(2)
    split = body[0].replace(b'"choices"', b'\ndata: "choices"', 1)
    assert judge([b"\xef\xbb\xbfevent: chunk\n" + split, *body[1:]], expected=2).ok


def test_rows_round_trip(tmp_path: Path) -> None:
    seen = [judge(stream()), judge([ERROR])]
    tables_io.write_records(tmp_path / "b1.parquet", seen)
    assert tables_io.read_records(tmp_path / "b1.parquet") == [replace(record, detail=None) for record in seen]


@QUICK
@given(
    places=st.lists(st.integers(0, 10_000), max_size=40),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    chat=st.booleans(),
    count=st.integers(1, 6),
)
def test_any_cut_of_the_bytes_gives_the_same_record(places: list[int], newline: bytes, chat: bool, count: int) -> None:
    body = b"".join(stream(count, chat=chat))
    whole = judge([body], expected=count)
    seen = judge(cut(body.replace(b"\n", newline), places), expected=count)
    assert whole.ok
    assert replace(seen, **TIMING) == replace(whole, **TIMING)
    assert 1 <= seen.reads <= seen.chunks == count
    assert 1 <= seen.first_chunk_tokens <= count
    assert (seen.reads == 1) == (seen.first_ns == seen.last_ns) == (seen.first_chunk_tokens == count)


@QUICK
@given(keep=st.integers(0, 10_000), places=st.lists(st.integers(0, 10_000), max_size=9), chat=st.booleans())
def test_a_truncated_stream_is_never_a_success(keep: int, places: list[int], chat: bool) -> None:
    body = b"".join(stream(3, chat=chat)).removesuffix(b"\n\n")  # behind [DONE] nothing can be missing
    assert not judge(cut(body[: keep % len(body)], places), expected=3).ok


INJECTED = [
    ERROR, b"event: error\ndata: x\n\n", message(object="error"), message(error="x", choices=[]),
    ERROR.replace(b"\n", b"\r\n"), message(error={}, usage=usage(5)),
]  # fmt: skip


@QUICK
@given(where=st.integers(0, 100), kind=st.sampled_from(INJECTED), places=st.lists(st.integers(0, 10_000), max_size=9))
def test_an_injected_error_is_never_a_success(where: int, kind: bytes, places: list[int]) -> None:
    parts = stream(5)
    parts.insert(where % (len(parts) + 1), kind)
    seen = judge(cut(b"".join(parts), places), expected=5)
    assert (seen.ok, seen.reason) == (False, "in_band_error")


@QUICK
@given(st.lists(st.sampled_from([b"data: a", b"data:b", b": c", b"", b"event: e", b"x", b"data"]), max_size=12))
def test_every_line_ending_gives_the_same_events(lines: list[bytes]) -> None:
    found = [[(name, data) for _, name, data in events([end.join([*lines, b""])])] for end in (b"\n", b"\r\n", b"\r")]
    assert found[0] == found[1] == found[2]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["choices", "usage", "error", "index", "text", "delta", "token_ids", "finish_reason", "object", "type"]
)
OBJECTS = st.dictionaries(KEYS, json_values | st.lists(st.dictionaries(KEYS, json_values)))
BYTES = st.lists(st.binary(max_size=60), max_size=8)


@QUICK
@given(OBJECTS, BYTES, st.sampled_from([200, 404, 500, None]))
def test_any_json_and_any_bytes_are_survived(fields: dict[str, Any], parts: list[bytes], status: int | None) -> None:
    seen = judge([message(**fields), *stream(2)], expected=2)
    assert not (seen.ok and fields.get("error") is not None)
    assert judge(parts, status=status).reason, "bytes at all are no success"


# The quick way through usual chunks --------------------------------------------------------------------------------

USUAL = (
    b'{"id":"a","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"x","logprobs":null,'
    b'"finish_reason":null,"stop_reason":null,"token_ids":[1,2]}],"usage":{"prompt_tokens":3,"total_tokens":5,'
    b'"completion_tokens":2}}',
    b'{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":'
    b'"\xc3\xa9 x","reasoning":"q"},"finish_reason":null,"token_ids":null}],"usage":null,"system_fingerprint":"f"}',
    b'{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":""}}]}',
)
"""What vLLM sends for a token."""
PIECES = (
    b'"', b"\\", b"\\u0041", b"\\ud800", b"\\n", b"0", b"1", b"-", b"1.0", b"1e2", b"01", b"{", b"}", b"[", b"]",
    b",", b":", b"null", b"true", b'"error":1,', b'"text":"z",', b'"text":null,', b'"index":1,', b'"index":0,', b"\xff",
    b"\xed\xa0\x80", b"\x00", b"\x1f", b"\x7f", b" ", b"99999999999999999999", b"9007199254740992", b"NaN",
    b'"finish_reason":"stop",', b'"usage":{"completion_tokens":9},', b'"choices":[],', b'"content":"a",',
    b'"object":"error",', b'"completion_tokens":7,', b'"completion_tokens":1.0,',
)  # fmt: skip
"""What breaks JSON, or means something else."""


def folded(seen: sse._Seen) -> tuple[Any, ...]:
    usage = sse.structs.asdict(seen.usage) if isinstance(seen.usage, sse._Tokens) else seen.usage
    return seen.problem, seen.done, usage, seen.finish_reason, seen.fingerprint, seen.messages


@pytest.mark.parametrize("data", USUAL)
def test_usual_chunks_take_the_quick_way(data: bytes) -> None:
    assert sse._take_plain(sse._Seen(), 0, data)


@pytest.mark.fault(
    "a chunk that is almost usual, mutated at random", "what the quick way takes, the careful one takes alike"
)
@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(USUAL), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5), st.sampled_from(PIECES)),
                                        max_size=3))  # fmt: skip
def test_the_quick_way_takes_nothing_that_the_careful_one_would_take_otherwise(
    data: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for place, gone, piece in changes:
        data = data[:place] + piece + data[place + gone :]
    quick, careful = sse._Seen(), sse._Seen()
    if sse._take_plain(quick, 0, data):
        sse._take(careful, 0, b"", data)
        assert folded(quick) == folded(careful)


@given(
    st.lists(
        st.lists(st.sampled_from((b"data: x\n\n", b"data: [DONE]\n\n", b"data: \n\n", b"data: a\ndata: b\n\n", b"\n",
                                  b": ping\n\n", b"data: c\r\n\r\n", b"event: e\n", b"data: half", b"data:y\n\n")),
                 max_size=3).map(b"".join).filter(bool),
        max_size=4,
    )
)  # fmt: skip
def test_whole_events_are_the_same_as_line_by_line(parts: list[bytes]) -> None:
    whole = sse._whole(parts)
    assert whole is None or whole == list(sse._lines(parts))
