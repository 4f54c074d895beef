"""What a block of load is, the URL it goes to, and the body of each of its requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

import orjson

from quantbench.client.prompts import Prompt
from quantbench.engines.api_key import authorization
from quantbench.engines.vllm import request_fields
from quantbench.errors import QuantbenchError

Endpoint = Literal["completions", "chat"]
Transport = Literal["auto", "wire", "aiohttp"]

_PATHS: dict[str, str] = {"completions": "/completions", "chat": "/chat/completions"}


@dataclass(frozen=True)
class LoadSpec:
    """One block of closed-loop load: `concurrency` slots, each with one request in flight at all times.

    url             http://host:port, .../v1, or the full endpoint URL (then `endpoint` follows from it)
    prompts         items {"id", "prompt" | "text" | "messages"}; see `prompts.requests_for`; `template` wraps them
    min_seconds, min_requests   the block issues requests until both are reached, and then to the end of a wave
    warmup_requests None: one wave
    warmup_max_tokens   tokens of each warm-up request; None: max_tokens
    timeout_s       per request, from sending to the end of its reply
    ignore_eos      ask for exactly max_tokens, and count any other number of tokens as a failure
    seed            names the sequence of prompts; give both models of a comparison the same
    salt            another one puts other leading texts before the same prompts: for the same server again
    openai_only     send only what OpenAI's API knows; then `ignore_eos` cannot be asked for
    extra_body      further fields of the body; they win over ours
    """

    url: str
    model: str
    prompts: Sequence[Mapping[str, Any]]
    concurrency: int
    max_tokens: int
    endpoint: Endpoint = "completions"
    template: str | None = None
    min_seconds: float = 0.0
    min_requests: int = 0
    warmup_requests: int | None = None
    warmup_max_tokens: int | None = None
    timeout_s: float = 600.0
    ignore_eos: bool = True
    seed: str = "quantbench"
    salt: str = ""
    openai_only: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    api_key: str | None = field(default=None, repr=False)
    transport: Transport = "auto"

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_tokens"):
            if getattr(self, name) < 1:
                raise QuantbenchError(f"{name} is {getattr(self, name)}", remedy="it must be 1 or more")
        endpoint_url(self.url, self.endpoint)

    @property
    def expected_tokens(self) -> int | None:
        """The token count that every reply must have, if one was asked for."""
        return self.max_tokens if self.ignore_eos and not self.openai_only else None

    @property
    def most_bytes(self) -> int:
        """Bytes of the longest reply that is believed: generous, but no server may fill the client's memory."""
        return (2 << 20) + (16 << 10) * self.max_tokens


def _split(url: str) -> SplitResult:
    """The parts of an http(s) URL. Raises QuantbenchError for what cannot be one."""
    why = ""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")  # a host name's labels have 1 to 63 characters
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.split() == [url]
        secret = "@" in parts.netloc
    except ValueError as error:
        good, secret, why = False, "@" in url, f": {error}"
    if secret:  # not repeated: it would stand on the terminal and in logs
        raise QuantbenchError("the url holds a user or a password", remedy="leave it out; a key is given by itself")
    if good and parts.fragment:
        raise QuantbenchError(f"url {url!r} has a part behind #, which no server sees", remedy="leave it out")
    if not good:
        raise QuantbenchError(f"url {url!r} is not an http(s) URL{why}", remedy="write it like http://127.0.0.1:8000")
    return parts


def endpoint_of(url: str) -> Endpoint:
    """The endpoint that a URL names; completions if it names none. Raises QuantbenchError."""
    return "chat" if _split(url).path.rstrip("/").endswith("/chat/completions") else "completions"


def endpoint_url(url: str, endpoint: str) -> str:
    """The full URL from any of http://host:port, http://host:port/v1, or the full URL itself.

    Raises QuantbenchError for what is no URL, or names the other endpoint.
    """
    parts = _split(url)
    path = parts.path.rstrip("/")
    if not path.endswith("/completions"):
        path = (path or "/v1") + _PATHS[endpoint]
    elif path.endswith("/chat/completions") != (endpoint == "chat"):
        raise QuantbenchError(f"url {url!r} is not the {endpoint} endpoint", remedy="name the right endpoint")
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def models_url(url: str, endpoint: str) -> str:
    """Where the same server lists its models."""
    parts = urlsplit(endpoint_url(url, endpoint))
    return urlunsplit((parts.scheme, parts.netloc, parts.path.removesuffix(_PATHS[endpoint]) + "/models", "", ""))


def headers(spec: LoadSpec) -> dict[str, str]:
    """HTTP headers of every request."""
    base = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",  # a compressed stream arrives in other pieces than it was sent in
        "User-Agent": "quantbench",
    }
    return base | authorization(spec.api_key)


def sampling(spec: LoadSpec) -> dict[str, Any]:
    """All body fields but the input. Every sampling field is set: a default belongs to the server or the model."""
    usage: dict[str, Any] = {"include_usage": True}
    body: dict[str, Any] = {
        "model": spec.model,
        "max_tokens": spec.max_tokens,
        "n": 1,
        "stream": True,
        "stream_options": usage,
        "temperature": 0,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "seed": 0,
    }
    if not spec.openai_only:
        usage |= request_fields.USAGE
        body |= request_fields.sampling(spec.max_tokens, ignore_eos=spec.ignore_eos)
    return body | dict(spec.extra_body)


def input_of(endpoint: str, prompt: Prompt) -> dict[str, Any]:
    """The body's field that holds the prompt. Raises QuantbenchError for messages on the completions endpoint."""
    if endpoint == "chat":
        return {"messages": prompt.messages or [{"role": "user", "content": prompt.text}]}
    if prompt.text is None:
        raise QuantbenchError(
            f"prompt {prompt.id!r} has messages, and the completions endpoint takes a text",
            remedy="set endpoint to chat, or give each line a `prompt`",
        )
    return {"prompt": prompt.text}


def body_of(spec: LoadSpec, base: Mapping[str, Any], prompt: Prompt) -> bytes:
    """The JSON body of one request. Raises QuantbenchError for messages on the completions endpoint."""
    fields = {**base, **input_of(spec.endpoint, prompt)}
    if not spec.openai_only:
        # A template may put a fixed system text in front of ours; the salt keeps its blocks apart as well.
        fields = request_fields.own_cache(prompt.nonce) | fields
    return orjson.dumps(fields)
