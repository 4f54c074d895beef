"""A small server that answers as vLLM does, and then misbehaves, for the tests of the quality part."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

BOS = 7


class Server:
    """Token ids are code points; the answer is the last character of the prompt, in capitals.

    faults: double, other_ids, status, template as the tests name them; `salt` is added to each id of a text, `frame`
    stands before a conversation, `context` is max_model_len. `odd`: {last character: what is sent in place of the
    answer: bytes, a status (int), or nothing for so many seconds}; `moody`: HTTP 500s before each prompt's answer.
    """

    def __init__(self, **faults: Any) -> None:
        self.faults, self.bodies, self.open, self.most = faults, [], 0, 0
        self.tried: Counter[str] = Counter()
        self.told: list[Any] = []
        """`chat_template_kwargs` of each conversation."""

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "messages" in body:
            self.told.append(body.get("chat_template_kwargs"))
            ids = [BOS, *self.faults.get("frame", ()), *self.ids(body["messages"][-1]["content"])]
            ids = [BOS, *ids] if self.faults.get("double") else ids
        else:
            ids = [BOS] * body["add_special_tokens"] + self.ids(body["prompt"])
        return web.json_response({"tokens": ids, "max_model_len": self.faults.get("context")})

    def ids(self, text: str) -> list[int]:
        return [ord(c) + self.faults.get("salt", 0) for c in text]

    async def detokenize(self, request: web.Request) -> web.Response:
        text = "".join(map(chr, (await request.json())["tokens"]))
        return web.json_response({"prompt": text + self.faults.get("template", "")})

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0.01)
        self.open -= 1
        if self.faults.get("status"):
            return web.Response(status=500, text="engine dead")
        last = chr(body["prompt"][-1] - self.faults.get("salt", 0))
        self.tried[last] += 1
        if self.tried[last] <= self.faults.get("moody", 0):
            return web.Response(status=500, text="in a mood")
        odd = self.faults.get("odd", {}).get(last)
        if isinstance(odd, bytes):
            return web.Response(body=odd.replace(b"IDS", str(body["prompt"]).encode()))
        if isinstance(odd, int):
            return web.Response(status=odd, text="odd")
        await asyncio.sleep(odd or 0)
        text = last.upper()
        ids = body["prompt"][1:] if self.faults.get("other_ids") else body["prompt"]
        choice = {"text": text, "finish_reason": "stop", "token_ids": [ord(text)], "prompt_token_ids": ids}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": 1}, "system_fingerprint": "f"})


@contextmanager
def serving(server: Server) -> Iterator[str]:
    app = web.Application()
    app.add_routes([web.post("/tokenize", server.tokenize), web.post("/v1/completions", server.complete)])
    if "template" in server.faults:
        app.add_routes([web.post("/detokenize", server.detokenize)])
    with running(app) as url:
        yield url


@contextmanager
def running(app: web.Application) -> Iterator[str]:
    """An application on a port of its own, in a thread; its URL."""
    started, told = threading.Event(), []

    async def serve() -> None:
        runner, over = web.AppRunner(app), asyncio.Event()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.append((asyncio.get_running_loop(), over, runner.addresses[0][1]))
        started.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    loop, over, port = told[0]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
