"""Which transport a URL needs, and the errors that end a block of load before it measures nonsense."""

from __future__ import annotations

import errno
import os
import ssl
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

import orjson

from quantbench.client.load_spec import LoadSpec, models_url
from quantbench.client.records import KEPT_OF_A_FAILURE, Exchange
from quantbench.client.wire import Connection, WireConnection
from quantbench.engines import openai_api
from quantbench.engines.api_key import hidden
from quantbench.errors import QuantbenchError
from quantbench.serving import preflight

# Replies that say that every such request will be refused, load or no load.
_REFUSALS = (400, 401, 403, 404, 405, 415, 422)


def transport_for(spec: LoadSpec) -> Callable[[str, dict[str, str]], Connection]:
    """`wire` for plain http, aiohttp for https and behind a proxy, or the one that the spec names."""
    url = urlsplit(spec.url)
    kind = spec.transport
    if kind == "auto":
        host = url.hostname or ""
        proxied = "http" in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
        proxied = proxied and not openai_api.is_loopback(spec.url)
        kind = "aiohttp" if url.scheme == "https" or proxied else "wire"
    if kind == "wire":
        if url.scheme == "https":
            raise QuantbenchError("transport wire cannot do https", remedy="use transport auto or aiohttp")
        return WireConnection
    from quantbench.client.aiohttp_wire import AiohttpConnection  # costs 0.2 s, and most runs do without

    return AiohttpConnection


def unreachable(spec: LoadSpec, error: OSError) -> QuantbenchError:
    """Nothing listens at the URL, or not in TLS that this client trusts."""
    if isinstance(error.__cause__, ssl.SSLError):
        return _no_tls(spec.url, error.__cause__)
    if os.strerror(errno.EMFILE) in str(error):  # aiohttp keeps the words and drops the number
        return QuantbenchError(
            f"{spec.concurrency} connections are more files than this process may open",
            remedy=f"raise the limit in this shell (`ulimit -n {2 * spec.concurrency + 1000}`), or lower concurrency",
        )
    if openai_api.is_loopback(spec.url) and (fault := preflight.loopback_fault()):
        return fault
    return QuantbenchError(
        f"no server answers at {spec.url}: {error}",
        remedy="start the server, wait until its /health answers 200, and check host and port",
    )


def _no_tls(url: str, error: ssl.SSLError) -> QuantbenchError:
    return QuantbenchError(f"TLS with {url} fails: {error}", remedy=openai_api.TLS_REMEDY)


def check_reply(spec: LoadSpec, exchange: Exchange) -> None:
    """Raise QuantbenchError for a reply that every further request would get as well."""
    if exchange.status is not None and 300 <= exchange.status < 400:
        raise QuantbenchError(
            f"{spec.url} {exchange.detail or 'redirects'} (HTTP {exchange.status})",
            remedy=f"give that URL in place of this one if it is the server you mean; {openai_api.NOT_FOLLOWED}",
        )
    if exchange.status not in _REFUSALS:
        return
    words = hidden(_message(b"".join(exchange.parts)), spec.api_key)
    remedy = (
        "check the model's name, and prompts plus max_tokens against the server's max_model_len; for a server that is "
        "not vLLM, `quantbench load` has --openai-only"
    )
    if exchange.status == 404:
        names = models_at(spec.url, spec.endpoint, spec.api_key)
        known = (
            f"the server has: {openai_api.names_of(names, spec.model)}"
            if names
            else "the server does not list its models"
        )
        remedy = f"{known}; or the endpoint {spec.endpoint!r} does not exist there"
    elif exchange.status in (401, 403):
        remedy = f"give the API key that the server wants: export {openai_api.KEY}=…"
    raise QuantbenchError(
        f"{spec.url} refuses requests for model {spec.model!r}: HTTP {exchange.status} {words}", remedy=remedy
    )


def _message(body: bytes) -> str:
    """The server's words, short."""
    try:
        parsed = orjson.loads(body)
        inner = parsed.get("error") or parsed if isinstance(parsed, dict) else parsed
        text = str(inner.get("message") or inner.get("detail") or inner) if isinstance(inner, dict) else str(inner)
    except orjson.JSONDecodeError:
        text = body[:KEPT_OF_A_FAILURE].decode(errors="replace")
    return openai_api.printable(text, 300)


def models_at(url: str, endpoint: str = "completions", api_key: str | None = None) -> list[str]:
    """Names of the models that the server at `url` lists; empty if it does not tell.

    Raises QuantbenchError if its TLS is not trusted.
    """
    try:
        return openai_api.models(models_url(url, endpoint), api_key)
    except openai_api.ClientError as error:
        if error.tls:
            raise _no_tls(url, error.tls) from error
        return []
