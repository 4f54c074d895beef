"""A programmable stand-in for `vllm serve`: same arguments, endpoints, log lines and process tree; no model.

    python tests/fake_vllm.py serve SOURCE --port 8000 --served-model-name NAME …   (any argument of vLLM is accepted)

It starts in under half a second. A child stands for the EngineCore: it holds the "GPU memory" and, as vLLM's does,
hides its environment. GPU memory is a lock per device of CUDA_VISIBLE_DEVICES in $FAKE_GPU_DIR (none if unset or on the
CPU): a second awake server on the device fails like CUDA out of memory. /sleep gives it back, /wake_up takes it again.

Behaviour is a JSON object, from the variable FAKE_VLLM and, read anew at every request, the file FAKE_VLLM_CONTROL
(it wins; give it as an absolute path). In a quantbench config both go into `server.env`.

    fail            text: log it and exit 1 instead of starting (for example "CUDA out of memory")
    start_s         seconds that the start takes (0.1)
    token_s         seconds per token and stream (0.0005)
    tokens          number of tokens per chunk (1)
    stream          what a streamed completion does after `after` tokens (10): ok | die (connection cut) | truncate (no
                    finish, no [DONE]) | error (in-band error object) | hang | http_500 (before anything);
                    of a list, one after the other
    refuse          list of sleep, wake, health, tokenize: answered with HTTP 500 (tokenize: 404)
    ignore_sigterm  true: SIGTERM does nothing, as with a request in flight
    drop            n: every n-th completion gets its connection closed instead of an answer
    slow            [n, s]: every n-th completion takes s seconds more
    short           number of tokens that every answer has fewer than was asked for (0)
    burst           number of chunks per write (1): several messages arrive in one read
    logprobs        what a completion gives that asks for them: numbers | nan (HTTP 400, as vLLM answers NaN) | null (in
                    place of a number) | none (no logprobs at all) | refused (HTTP 400 for another reason)
    fingerprint     system_fingerprint of every answer ("fake-1"); of a list, one after the other
    words           text that every answer repeats per token (" word"); of a list, one after the other
    after_wake      the same of a server that has slept, e.g. "!": its weights did not come back right
    nearly          object: log-probabilities of other texts that could stand in place of a token (the chosen one: -0.5)
    list            what /v1/models answers in place of the list: a JSON value, or a text, which it gives as HTML
    tell            file to which every completion of token ids adds a line: the ids, as JSON
    key             the API key that /v1/models asks for
    salt            number added to every token id: another tokenizer
    bos             number of begin-of-text tokens at the head of a chat prompt (0)
    template        false: a chat prompt is the bare text of its messages
    grow            object: what each answered completion adds to a sample of /metrics (named without "vllm:")
    cache_dtype     as /metrics tells it ("auto")
    unquantized     true: the log shows plain layers though config.json claims a quantization
    incident        text: logged as a WARNING (or at `incident_level`) at every completion
    say             list of texts: logged by the engine while it starts
    engine          object: fields of the logged engine configuration (kv_cache_dtype, speculative_config)
    kernel, attention    names of the linear kernel and of the attention backend as logged
    weights_gib     as logged (CUDA only; 1.0)
    kv_tokens       size of the KV cache as logged and as /metrics tells it (131072)
    version         as /version says ("0.32.0")
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

KERNELS = {
    "compressed-tensors": ("CPUWNA16LinearKernel", "CompressedTensorsWNA16"),
    "awq": ("MarlinLinearKernel", "AWQ"),
    "gptq": ("MarlinLinearKernel", "GPTQ"),
    "fp8": ("CutlassFP8ScaledMMLinearKernel", "Fp8"),
}
LOGPROBS = {"nan": "Out of range float values are not JSON compliant", "refused": "logprobs are not supported"}
KV_TOKENS = 131072
ENGINE = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(36000)  # EngineCore"


def behaviour() -> dict[str, Any]:
    """FAKE_VLLM, overlaid by the control file."""
    rules: dict[str, Any] = json.loads(os.environ.get("FAKE_VLLM") or "{}")
    with contextlib.suppress(OSError, ValueError, KeyError):
        rules |= json.loads(Path(os.environ["FAKE_VLLM_CONTROL"]).read_text())
    return rules


def log(message: str, level: str = "INFO", process: str = "APIServer", source: str = "fake.py:1") -> None:
    """One line as vLLM's logger writes it."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    print(f"({process} pid={os.getpid()}) {level} {stamp} [{source}] {message}", flush=True)


class Memory:
    """The GPU memory of this server: one lock per device."""

    def __init__(self) -> None:
        folder, devices = os.environ.get("FAKE_GPU_DIR"), os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self.files = []
        if folder and devices:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.files = [Path(folder, f"gpu{device}.mem").open("a") for device in devices.split(",")]  # noqa: SIM115

    def take(self) -> bool:
        try:
            for file in self.files:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def give(self) -> None:
        for file in self.files:
            fcntl.flock(file, fcntl.LOCK_UN)


class FakeServer:
    """State and endpoints."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.memory, self.asleep, self.slept = args, Memory(), False, False
        self.name = args.served_model_name or args.source
        self.started = time.time()
        self.counters = {"prompt": 0, "generation": 0, "success": 0, "running": 0, "requests": 0}

    def boot(self) -> None:
        """Log what vLLM logs at a start, or die as it does."""
        rules, args = behaviour(), self.args
        log(f"non-default args: {{'model': '{args.source}', 'port': {args.port}}}", source="api_utils.py:286")
        time.sleep(rules.get("start_s", 0.1))
        if rules.get("fail"):
            sys.exit(rules["fail"])
        if not self.memory.take():
            sys.exit("torch.OutOfMemoryError: CUDA out of memory. Another server is on this GPU.")
        fds = [file.fileno() for file in self.memory.files]
        self.engine = subprocess.Popen([sys.executable, "-S", "-c", ENGINE], env={}, pass_fds=fds)
        self._log_model(rules)
        log(f"Starting vLLM server on http://127.0.0.1:{args.port}", source="entry.py:140")

    def _log_model(self, rules: dict[str, Any]) -> None:
        config: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            config = json.loads(Path(self.args.source, "config.json").read_text())
        method = (config.get("quantization_config") or {}).get("quant_method") or self.args.quantization
        plain = rules.get("unquantized") or not method
        engine = {"speculative_config": None, "kv_cache_dtype": "auto"} | rules.get("engine", {})
        graphs = "NONE: 0" if self.args.enforce_eager else "FULL_AND_PIECEWISE: (2, 1)"
        eager, caching = self.args.enforce_eager, self.args.enable_prefix_caching
        log(f"Using max model len {self.args.max_model_len}", source="model.py:2152")
        log(
            f"Initializing a V1 LLM engine (v0.32.0) with config: model='{self.args.source}', "
            f"speculative_config={engine['speculative_config']}, "
            f"dtype=torch.{self.args.dtype}, max_seq_len={self.args.max_model_len}, tensor_parallel_size=1, "
            f"quantization={None if plain else method}, enforce_eager={eager}, "
            f"kv_cache_dtype={engine['kv_cache_dtype']}, enable_prefix_caching={caching}, "
            f"compilation_config={{'cudagraph_mode': <CUDAGraphMode.{graphs}>}}",
            process="EngineCore",
        )
        log(f"Using {rules.get('attention', 'FAKE_ATTN')} backend.", process="EngineCore")
        for text in rules.get("say", []):
            log(text, process="EngineCore")
        if not plain:
            kernel, layer = KERNELS.get(method, KERNELS["compressed-tensors"])
            log(f"Using {rules.get('kernel', kernel)} for {layer}", process="EngineCore")
        if os.environ.get("CUDA_VISIBLE_DEVICES"):
            log(f"Model loading took {rules.get('weights_gib', 1.0)} GiB memory and 0.05 seconds", process="EngineCore")
            log("Available KV cache memory: 8.0 GiB", process="EngineCore")
            log("Kernel JIT monitor activated; mode=warn.", process="EngineCore")  # real vLLM: not in eager mode
        else:
            log("Loading weights took 0.05 seconds", process="EngineCore")
        if not self.args.enforce_eager:
            self._compile()
        held = rules.get("kv_tokens", KV_TOKENS)
        tokens = f"{held:,} tokens, Maximum concurrency for 1,024 tokens per request: {held / 1024:.2f}x"
        log(f"CPU KV cache size: {tokens}", process="EngineCore")
        log("init engine (profile, create kv cache, warmup model) took 0.05 s", process="EngineCore")

    def _compile(self) -> None:
        """Like vLLM's compile cache: what lies in VLLM_CACHE_ROOT is not compiled again."""
        root = os.environ.get("VLLM_CACHE_ROOT")
        cached = Path(root, "graph") if root else None
        if cached and cached.exists():
            log("Directly load the compiled graph(s) for compile range (1, 8192) from the cache, took 0.01 s")
            log("torch.compile took 0.02 s in total")
            return
        time.sleep(0.3)
        log("Compiling a graph for compile range (1, 8192) takes 0.20 s")
        log("torch.compile took 0.30 s in total")
        if cached:
            cached.parent.mkdir(parents=True, exist_ok=True)
            cached.touch()

    async def health(self, _: web.Request) -> web.Response:
        alive = self.engine.poll() is None and "health" not in behaviour().get("refuse", [])
        return web.Response(status=200 if alive else 500)

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": behaviour().get("version", "0.32.0")})

    async def models(self, request: web.Request) -> web.Response:
        rules = behaviour()
        if rules.get("key") and request.headers.get("Authorization") != f"Bearer {rules['key']}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        if isinstance(listed := rules.get("list"), str):
            return web.Response(text=listed, content_type="text/html")
        if listed is not None:
            return web.json_response(listed)
        return web.json_response({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    async def metrics(self, _: web.Request) -> web.Response:
        rules, c = behaviour(), self.counters
        held = rules.get("kv_tokens", KV_TOKENS)
        cache = f'block_size="128",kv_cache_size_tokens="{held}",kv_cache_max_concurrency="{held / 1024}"'
        cache += f',cache_dtype="{rules.get("cache_dtype", "auto")}"'
        label = f'{{engine="0",model_name="{self.name}"}}'
        rows = {
            "process_start_time_seconds": self.started,
            f'vllm:cache_config_info{{{cache},num_gpu_blocks="1024"}}': 1,
            f"vllm:num_requests_running{label}": c["running"],
            f"vllm:num_requests_waiting{label}": 0,
            f"vllm:kv_cache_usage_perc{label}": 0.01 * c["running"],
            f"vllm:prefix_cache_queries_total{label}": c["prompt"] if self.args.enable_prefix_caching else 0,
            f"vllm:prefix_cache_hits_total{label}": 0,
            f"vllm:num_preemptions_total{label}": 0,
            f"vllm:prompt_tokens_total{label}": c["prompt"],
            f"vllm:generation_tokens_total{label}": c["generation"],
            f"vllm:request_queue_time_seconds_sum{label}": 0.0,
            f"vllm:request_queue_time_seconds_count{label}": c["success"],
            f'vllm:request_success_total{{engine="0",finished_reason="length",model_name="{self.name}"}}': c["success"],
            f"vllm:corrupted_requests_total{label}": 0,
        }
        for name, amount in rules.get("grow", {}).items():
            key = name if name.startswith("process_") else f"vllm:{name}{label}"
            rows[key] = rows.get(key, 0) + amount * c["success"]
        return web.Response(text="".join(f"{key} {value}\n" for key, value in rows.items()))

    def _ids(self, text: str) -> list[int]:
        salt = behaviour().get("salt", 0)
        return [int(hashlib.sha256(w.encode()).hexdigest()[:4], 16) + 10 + salt for w in text.split(" ")]

    async def tokenize(self, request: web.Request) -> web.Response:
        rules, body = behaviour(), await request.json()
        if "tokenize" in rules.get("refuse", []):
            return web.Response(status=404)
        bos = rules.get("bos", 0)
        if "messages" in body:
            ids = self._ids(" ".join(str(m["content"]) for m in body["messages"]))
            ids = [1] * bos + ([2, *ids, 3] if rules.get("template", True) else ids)
        else:
            ids = [1] * bool(bos and body.get("add_special_tokens", True)) + self._ids(body["prompt"])
        return web.json_response({"tokens": ids, "count": len(ids), "max_model_len": self.args.max_model_len})

    async def sleep(self, _: web.Request) -> web.Response:
        if "sleep" in behaviour().get("refuse", []):
            return web.Response(status=500)
        self.memory.give()
        self.asleep = self.slept = True
        return web.json_response({"status": "sleeping"})

    async def wake_up(self, _: web.Request) -> web.Response:
        if "wake" in behaviour().get("refuse", []) or not self.memory.take():
            return web.Response(status=500, text="CUDA out of memory")
        self.asleep = False
        return web.json_response({"status": "awake"})

    async def is_sleeping(self, _: web.Request) -> web.Response:
        return web.json_response({"is_sleeping": self.asleep})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body, rules, chat = await request.json(), behaviour(), "chat" in request.path
        if body.get("model") not in (None, self.name):
            return web.json_response({"error": {"message": "model not found", "code": 404}}, status=404)
        self.counters["requests"] += 1
        if isinstance(streams := rules.get("stream"), list):
            rules = rules | {"stream": streams[self.counters["requests"] % len(streams)]}
        if (body.get("stream") and rules.get("stream") == "http_500") or self.asleep or self.engine.poll() is not None:
            return web.json_response({"error": {"message": "Internal server error", "code": 500}}, status=500)
        if body.get("logprobs") is not None and (error := LOGPROBS.get(rules.get("logprobs", ""))):
            return web.json_response({"error": {"message": error, "code": 400}}, status=400)
        if rules.get("incident"):
            log(str(rules["incident"]), rules.get("incident_level", "WARNING"))
        prompt = body.get("prompt") or " ".join(str(m["content"]) for m in body.get("messages", []))
        if rules.get("drop") and not self.counters["requests"] % rules["drop"] and request.transport:
            request.transport.abort()
            return web.Response()
        reply = Reply(self, body, rules, chat, len(self._ids(str(prompt))))
        self.counters["running"] += 1
        every, seconds = rules.get("slow", (1, 0))
        try:
            await asyncio.sleep(0 if self.counters["requests"] % every else seconds)
            return await (reply.stream(request) if body.get("stream") else reply.whole())
        finally:
            self.counters["running"] -= 1


class Reply:
    """One answer, streamed or whole."""

    def __init__(
        self, server: FakeServer, body: dict[str, Any], rules: dict[str, Any], chat: bool, prompt: int
    ) -> None:
        self.server, self.body, self.rules, self.chat, self.prompt = server, body, rules, chat, prompt
        self.n = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16) - rules.get("short", 0)
        kind = "chat.completion" if chat else "text_completion"
        fingerprint = rules.get("fingerprint", "fake-1")
        if isinstance(fingerprint, list):
            fingerprint = fingerprint[server.counters["requests"] % len(fingerprint)]
        self.base = {"id": "fake", "object": kind, "model": server.name, "system_fingerprint": fingerprint}

    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": self.prompt, "completion_tokens": self.n, "total_tokens": self.prompt + self.n}

    def count(self) -> None:
        counters = self.server.counters
        counters["prompt"] += self.prompt
        counters["generation"] += self.n
        counters["success"] += 1

    async def whole(self) -> web.Response:
        await asyncio.sleep(self.n * self.rules.get("token_s", 0.0005))
        self.count()
        words = (self.server.slept and self.rules.get("after_wake")) or self.rules.get("words", " word")
        if isinstance(words, list):
            words = words[self.server.counters["requests"] % len(words)]
        text = words * self.n
        part = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", **part}
        if self.body.get("return_token_ids"):
            ids = self.body["prompt"]
            choice |= {"prompt_token_ids": ids, "token_ids": list(range(self.n))}
            if self.rules.get("tell"):
                with Path(self.rules["tell"]).open("a") as file:
                    file.write(json.dumps(ids) + "\n")
        fault = self.rules.get("logprobs", "numbers")
        if self.body.get("logprobs") is not None and fault != "none":
            values = [-0.5] * (self.n - 1) + [None if fault == "null" else -0.5]
            likely = [{**self.rules.get("nearly", {}), words: value} for value in values]
            choice["logprobs"] = {"token_logprobs": values, "tokens": [words] * self.n, "top_logprobs": likely}
        return web.json_response({**self.base, "choices": [choice], "usage": self.usage()})

    def chunk(self, text: str, reason: str | None = None) -> bytes:
        part: dict[str, Any] = {"delta": {"content": text}} if self.chat else {"text": text}
        return self.event({**self.base, "choices": [{"index": 0, "finish_reason": reason, **part}]})

    @staticmethod
    def event(value: Any) -> bytes:
        return f"data: {json.dumps(value)}\n\n".encode()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        if self.chat:
            first = {"index": 0, "delta": {"role": "assistant", "content": ""}}
            await reply.write(self.event({**self.base, "choices": [first]}))
        fault, after = self.rules.get("stream", "ok"), self.rules.get("after", 10)
        per_chunk, burst, sent = self.rules.get("tokens", 1), self.rules.get("burst", 1), 0
        held: list[bytes] = []
        while sent < self.n:
            if sent >= after and fault in ("die", "truncate", "error", "hang"):
                return await self.misbehave(fault, request, reply)
            step = min(per_chunk, self.n - sent)
            await asyncio.sleep(step * self.rules.get("token_s", 0.0005))
            sent += step
            held.append(self.chunk(" word" * step, "length" if sent == self.n else None))
            if len(held) == burst or sent == self.n:
                await reply.write(b"".join(held))
                held.clear()
        self.count()
        if (self.body.get("stream_options") or {}).get("include_usage"):
            await reply.write(self.event({**self.base, "choices": [], "usage": self.usage()}))
        await reply.write(b"data: [DONE]\n\n")
        await reply.write_eof()
        return reply

    async def misbehave(self, fault: str, request: web.Request, reply: web.StreamResponse) -> web.StreamResponse:
        if fault == "hang":
            await asyncio.sleep(36000)
        if fault == "die" and request.transport:
            request.transport.abort()
        if fault == "error":
            error = {"message": "EngineDeadError", "type": "InternalServerError", "code": 500}
            await reply.write(self.event({"error": error}) + b"data: [DONE]\n\n")
        if fault in ("error", "truncate"):
            await reply.write_eof()
        return reply


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("source")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name")
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantization")
    parser.add_argument("--enforce-eager", action="store_true")
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--enable-sleep-mode", action="store_true")
    known, unknown = parser.parse_known_args()
    if bad := [word for word in unknown if word.startswith("--no-such")]:
        parser.error(f"unrecognized arguments: {' '.join(bad)}")
    return known


async def serve(fake: FakeServer) -> None:
    app = web.Application()
    for path, answer in (
        ("/health", fake.health), ("/version", fake.version), ("/metrics", fake.metrics), ("/v1/models", fake.models),
    ):  # fmt: skip
        app.router.add_get(path, answer)
    app.router.add_post("/tokenize", fake.tokenize)
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, fake.completions)
    if fake.args.enable_sleep_mode and os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
        app.router.add_post("/sleep", fake.sleep)
        app.router.add_post("/wake_up", fake.wake_up)
        app.router.add_get("/is_sleeping", fake.is_sleeping)
    stop = asyncio.Event()
    ignore = behaviour().get("ignore_sigterm")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None if ignore else stop.set())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", fake.args.port).start()
    print("INFO:     Application startup complete.", flush=True)
    await stop.wait()
    fake.engine.kill()
    await runner.cleanup()


if __name__ == "__main__":
    server = FakeServer(arguments())
    server.boot()
    asyncio.run(serve(server))
