"""Fuzz the stream parser by hand: `nice python benchmarks/fuzz_sse.py --streams 1000000 --seed 1`.

Each stream is a vLLM-like reply, mutated, cut into reads at random, parsed. It stops with the bytes at fault if the
parser raises, if a stream with an error in it is called a success, or a truncated one, or if a success is not one by
the slow reading of `honest`, which shares no code with the parser. Half of the streams also pass, framing and all,
through the HTTP parser, where anything may be mutated.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from quantbench.client.http1 import HttpError, ReplyParser
from quantbench.client.records import Ending, Exchange
from quantbench.client.sse import record
from quantbench.client.truth_stream import FAULTS, Schedule, plan

TOKENS = 4
ERRORS = (
    b'data: {"error":{"message":"EngineCore died","code":500}}\n\n',
    b'data: {"object":"error","message":"x"}\n\n',
    b"event: error\ndata: boom\n\n",
    b'{"error":"x"}\n\n',
    b'data: {"choices":[{"index":0,"text":"x","finish_reason":"error"}]}\r\n\r\n',
)
SPICE = (
    b"\n",
    b"\r",
    b"\r\n",
    b":",
    b"data: ",
    b"data: [DONE]\n\n",
    b"\xff",
    b"\x00",
    b"null",
    b"{",
    b"}",
    b'"',
    b"0",
    b"-1",
)


def clean(chat: bool) -> bytes:
    """A whole stream, without HTTP framing."""
    reply = plan(Schedule(), {"max_tokens": TOKENS}, chat=chat, number=0)
    parser = ReplyParser()
    return parser.feed(reply.head + b"".join(reply.tokens) + reply.tail)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Some edits: flip, delete, insert, copy, swap, truncate."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        a = rng.randrange(len(out) + 1)
        b = min(len(out), a + int(rng.expovariate(0.1)) + 1)
        kind = rng.randrange(7)
        if kind == 0 and a < len(out):
            out[a] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[a:b]
        elif kind == 2:
            out[a:a] = rng.choice(SPICE)
        elif kind == 3:
            out[a:a] = out[a : b + 200]
        elif kind == 4:
            out[a:b] = rng.randbytes(b - a)
        elif kind == 5:
            events = bytes(out).split(b"\n\n")
            rng.shuffle(events)
            out = bytearray(b"\n\n".join(events))
        else:
            del out[a:]
    return bytes(out)


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """The bytes as reads."""
    places = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(8)))})
    return [data[a:b] for a, b in pairwise(places)]


def judge(parts: list[bytes], ending: Ending = "complete", status: int | None = 200) -> tuple[bool, str | None]:
    """(ok, reason) by the parser under test."""
    times = list(range(1, len(parts) + 1))
    found = record(Exchange(0, "p", 0, 99, times, parts, status, ending), expected_tokens=TOKENS)
    assert found.ok == (found.reason is None)
    return found.ok, found.reason


def over_http(raw: bytes, rng: random.Random) -> tuple[list[bytes], Ending, int | None]:
    """Mutated HTTP through the HTTP parser."""
    parser, parts = ReplyParser(), []
    try:
        for piece in cut(raw, rng):
            parts.append(parser.feed(piece))
            if parser.done:
                break
    except HttpError:
        return parts, "bad_http", parser.status
    return parts, "complete" if parser.end_of_stream() else "disconnected", parser.status


def honest(body: bytes) -> bool:
    """A slow, separate reading: is this really a whole stream of TOKENS tokens without an error?"""
    text = re.sub(rb"\r\n|\r", b"\n", body.removeprefix(b"\xef\xbb\xbf"))
    payloads = []
    for event in text.split(b"\n\n"):
        lines = [line for line in event.split(b"\n") if line and not line.startswith(b":")]
        if any(line.partition(b":")[0] not in (b"data", b"event", b"id", b"retry") for line in lines):
            return False
        if any(line.startswith(b"event") and line.endswith(b"error") for line in lines):
            return False
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data"))
        payloads += [data] if data else []
    if not payloads or payloads[-1] != b"[DONE]":
        return False
    messages = [json.loads(p) for p in payloads if p != b"[DONE]"]
    if any(m.get("error") is not None or m.get("object") == "error" or m.get("type") == "error" for m in messages):
        return False
    counts = [m["usage"].get("completion_tokens") for m in messages if isinstance(m.get("usage"), dict)]
    finishes = [c.get("finish_reason") for m in messages for c in m.get("choices") or []]
    return counts[-1] == TOKENS and any(finishes) and "error" not in finishes


def one(rng: random.Random, bodies: list[bytes], replies: list[bytes]) -> tuple[str, str | None]:
    """Make and judge one stream; raises AssertionError with the bytes at fault."""
    kind = rng.choice(("mutated", "error", "truncated", "http", "http"))
    body = rng.choice(bodies)
    if kind == "http":
        raw = mutate(rng.choice(replies), rng)
        parts, ending, status = over_http(raw, rng)
        ok, reason = judge(parts, ending, status)
        assert not ok or honest(b"".join(parts)), raw
    elif kind == "error":  # whole and at a place of its own; anything around it may be broken
        place = rng.choice([m.end() for m in re.finditer(rb"\n\n", body)])
        before, after = body[:place], body[place:]
        before = mutate(before, rng) if rng.random() < 0.5 else before
        after = mutate(after, rng) if rng.random() < 0.5 else after
        raw = before + b"\n\n" + rng.choice(ERRORS) + after
        ok, reason = judge(cut(raw, rng))
        assert not ok, raw
    elif kind == "truncated":
        raw = body[: rng.randrange(len(body) - 2)]  # of a last [DONE] the blank line may be missing
        ok, reason = judge(cut(raw, rng))
        assert not ok, raw
    else:
        raw = mutate(body, rng)
        ok, reason = judge(cut(raw, rng))
        assert not ok or honest(raw), raw
    return kind, reason


def main() -> None:
    """Run and print how often which verdict was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    bodies = [clean(False), clean(True)]
    replies = []
    for fault in FAULTS:
        for chat in (False, True):
            reply = plan(Schedule(fault=fault, after=2), {"max_tokens": TOKENS}, chat=chat, number=0)
            replies.append(reply.head + b"".join(reply.tokens) + reply.tail)
    began = time.monotonic()
    seen = Counter(one(rng, bodies, replies) for _ in range(args.streams))
    print(f"{args.streams} streams, seed {args.seed}, {time.monotonic() - began:.0f} s, no crash, no false success")
    for (kind, reason), count in seen.most_common():
        print(f"{count:9d}  {kind:10s} {reason or 'ok'}")


if __name__ == "__main__":
    main()
