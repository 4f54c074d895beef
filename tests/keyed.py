"""Servers that want keys, a comparison that asks them, and a look at who could read the keys meanwhile."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from answer_server import running
from ports import free_ports
from quantbench.engines.openai_api import ClientError, models
from quantbench.records.base import read
from quantbench.records.suite import SuiteScore
from quantbench.serving import processes
from servers import FAKE
from source import ROOT

KEYS = {"OPENAI_API_KEY": "sk-Pl4nt3dK3yOfTh3S3rv3r", "JUDGE_KEY": "sk-Pl4nt3dK3yOfTh3Judg3"}
"""What a shell exports: the key of the servers that are compared, and of the judging model."""


@contextmanager
def comparison(folder: Path) -> Iterator[dict[str, Any]]:
    """The configuration of two models behind endpoints, and of a judge: all refuse who does not show their keys."""
    ports = dict(zip(("alpha", "beta"), free_ports(2), strict=True))
    prompts = folder / "prompts.jsonl"
    items = (ROOT / "config/prompts/quality_small.jsonl").read_text().splitlines(keepends=True)
    prompts.write_text("".join(items[:2]))
    judge = web.Application()
    judge.add_routes([web.post("/v1/chat/completions", _judged)])
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            stack.enter_context(_stand_in(name, port))
        url = stack.enter_context(running(judge))
        suite = {"kind": "judge", "items": str(prompts), "url": url, "model": "Referee", "key_env": "JUDGE_KEY"}
        yield {
            "gpu": "mine",
            "models": {
                name: {"endpoint": f"http://127.0.0.1:{port}", "served_name": "m"} for name, port in ports.items()
            },
            "workloads": {"chat": {"prompts": "config/prompts/chat.jsonl", "concurrency": [1], "max_tokens": [8]}},
            "baseline": "alpha",
            "primary": {"workload": "chat", "concurrency": 1},
            "blocks": 2,
            "budget": "none",
            "aa_control": False,
            "block": {"min_seconds": 0.2},
            "quality": {"prompts": str(prompts), "suites": {"tasks": None, "likelihood": None, "referee": suite}},
        }


async def _judged(request: web.Request) -> web.Response:
    if request.headers.get("Authorization") != f"Bearer {KEYS['JUDGE_KEY']}":
        return web.json_response({"error": "Unauthorized"}, status=401)
    return web.json_response({"choices": [{"message": {"content": "[[tie]]"}, "finish_reason": "stop"}]})


@contextmanager
def _stand_in(name: str, port: int) -> Iterator[None]:
    """Its answers are its name, as a judge is not asked about two that are alike."""
    key = KEYS["OPENAI_API_KEY"]
    env = {**os.environ, "FAKE_VLLM": json.dumps({"key": key, "words": f" {name}"})}
    line = [sys.executable, str(FAKE), "serve", "any", "--served-model-name", "m", "--port", str(port)]
    with subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            assert processes.until(lambda: _answers(port, key), 60)
            yield
        finally:
            server.terminate()


def _answers(port: int, key: str) -> bool:
    with contextlib.suppress(ClientError):
        return bool(models(f"http://127.0.0.1:{port}/v1/models", key))
    return False


def asked_the_judge(comparison: Path) -> bool:
    """Whether a finished comparison has the judge's word on every pair."""
    [path] = comparison.glob("results/*/suites/referee/beta.score.json")
    preference = read(path, SuiteScore).preference
    return preference is not None and preference.ties == preference.pairs == 2 and not preference.identical


def forms(secret: str) -> list[bytes]:
    """A secret as it is, and as it stands within a longer text in base64, in which Snakemake hands arguments on."""
    shifted = [base64.b64encode(b"\0" * n + secret.encode()) for n in range(3)]
    return [secret.encode(), *(text[-(-n * 8 // 6) : -4] for n, text in enumerate(shifted))]


def shows_key(text: bytes) -> bool:
    return any(form in text for secret in KEYS.values() for form in forms(secret))


class Onlooker:
    """Another user of the machine: reads every command line, and whatever else anybody may, as long as it is open.

    seen: all command lines; leaks: those texts in which a key stands.
    """

    def __init__(self, *others: Callable[[], list[str]]) -> None:
        self.seen: set[str] = set()
        self.leaks: set[str] = set()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(look, pause))
            for look, pause in [(_command_lines, 0.02), *((other, 1.0) for other in others)]
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _look(self, look: Callable[[], list[str]], pause: float) -> None:
        while not self._over.wait(pause):
            for text in look():
                self.seen.add(text)
                if shows_key(text.encode()):
                    self.leaks.add(text)

    def saw(self, words: str) -> bool:
        return any(words in text for text in self.seen)


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def files_with_key(folder: Path) -> list[Path]:
    """Files below it in which a key stands."""
    plain = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in plain if shows_key(path.read_bytes())]
