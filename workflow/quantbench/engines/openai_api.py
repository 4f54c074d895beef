"""Plain requests that every OpenAI-compatible server answers: is it well, what does it serve, one completion.

The only HTTP client beside those that measure (`client/wire`, `client/aiohttp_wire`, `quality/ask`).
"""

from __future__ import annotations

import difflib
import functools
import io
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http import client as http
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from quantbench.engines import api_key
from quantbench.records.server import Completion, ServerSpec

Json = dict[str, Any]

TEST_PROMPT = "The capital of France is"
KEY = api_key.NAME
MOST_BYTES = 16 << 20
"""Of one reply, head and all: more than any list of models, metrics page or prompt of token ids has."""
TLS_REMEDY = (
    "for a certificate of your own, name its CA's file in SSL_CERT_FILE; for a server without TLS, write http://"
)
STREAM_REMEDY = (
    "have that server, or the proxy before it, send one JSON object to a request with `stream: false`; its URL is right"
)
NOT_FOLLOWED = "nothing follows redirects, as the API key is for the server that is named"
_SHOWN_NAMES = 8
_WAITED_FOR = (408, 425, 429)
"""HTTP statuses below 500 that pass by themselves; so do all from 500 on, and a server that does not answer yet."""


class ClientError(Exception):
    """The server did not answer, or not as it should; the message says how.

    status: of an HTTP answer, else None. tls: what is wrong with the TLS of the server, else None. location: where it
    redirects to, else None. answered: what came is a whole answer, but not one that was to be expected; streamed: it
    came as a stream.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        tls: ssl.SSLError | None = None,
        location: str | None = None,
        *,
        answered: bool = False,
        streamed: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.tls, self.location = status, tls, location
        self.answered, self.streamed = answered, streamed

    @property
    def lasting(self) -> bool:
        """Will waiting not mend it?"""
        if self.status is None:
            return self.answered
        return self.status < 500 and self.status not in _WAITED_FOR


def is_loopback(url: str) -> bool:
    """True for a server on this machine: no proxy stands between, whatever the environment says."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class _Rationed(io.RawIOBase):
    """What a connection sends, up to MOST_BYTES and up to a point in time, however slowly it drips.

    Below the HTTP parser, so that it holds for endless headers and interim replies as it does for a body.
    """

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, deadline: float) -> None:
        self._raw, self._connection, self._deadline, self._left = raw, connection, deadline, MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        if self._left <= 0:
            raise OSError(f"the answer is longer than {MOST_BYTES >> 20} MiB")
        self._connection.settimeout(left_s)
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reply(http.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_Rationed(self.fp.detach(), sock, deadline))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: following it would take the key, or the question, to another server."""

    def http_error_302(self, *_: Any) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]


def _opener(url: str, deadline: float) -> urllib.request.OpenerDirector:
    def rationed(kind: Callable[..., http.HTTPConnection]) -> Callable[..., http.HTTPConnection]:
        def connection(*args: Any, **more: Any) -> http.HTTPConnection:
            made = kind(*args, **more)
            made.response_class = functools.partial(_Reply, deadline=deadline)  # type: ignore[assignment]
            return made

        return connection

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.HTTPResponse:
            return self.do_open(rationed(http.HTTPConnection), req)

    class Tls(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.HTTPResponse:
            return self.do_open(rationed(http.HTTPSConnection), req)

    proxies = urllib.request.ProxyHandler({} if is_loopback(url) else None)
    return urllib.request.build_opener(proxies, _NoRedirect, Plain, Tls)


class _Came(NamedTuple):
    """A 2xx answer."""

    body: bytes
    kind: str
    """Its Content-Type."""


def _request(
    url: str, body: Mapping[str, Any] | None, *, post: bool = False, timeout: float = 10.0, key: str | None = None
) -> _Came:
    data = json.dumps(body).encode() if body is not None else b"" if post else None
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        asked = urllib.request.Request(url, data=data, headers=headers)
        for name, value in api_key.authorization(key).items():
            asked.add_unredirected_header(name, value)
        with _opener(url, time.monotonic() + timeout).open(asked, timeout=timeout) as answer:
            if packed := answer.headers.get("Content-Encoding", "identity").strip().lower().removeprefix("identity"):
                raise ClientError(
                    f"{url} answered packed as {printable(packed, 40)}, which nobody asked for", answered=True
                )
            return _Came(_body(answer), answer.headers.get("Content-Type", ""))
    except urllib.error.HTTPError as error:
        raise _refused(url, error, key) from error
    except (OSError, ValueError, http.HTTPException) as error:
        reason = getattr(error, "reason", error)
        tls = reason if isinstance(reason, ssl.SSLError) else None
        words = api_key.hidden(str(reason) or type(error).__name__, key)
        raise ClientError(f"{url} did not answer: {words}", tls=tls) from error


def _body(answer: http.HTTPResponse) -> bytes:
    """In pieces, as a length is believed and reserved at once."""
    body = b"".join(iter(functools.partial(answer.read, 1 << 16), b""))
    if answer.length:
        raise http.IncompleteRead(body, answer.length)
    return body


def _refused(url: str, error: urllib.error.HTTPError, key: str | None) -> ClientError:
    """What an answer means that is no success."""
    location = error.headers.get("Location") if 300 <= error.code < 400 else None
    if location:
        target = place(url, location)
        return ClientError(f"{url} redirects (HTTP {error.code}) to {target}", error.code, location=target)
    try:
        start = error.read(300)
    except (OSError, ValueError, http.HTTPException):
        start = b""
    return ClientError(f"{url} answered HTTP {error.code}: {api_key.hidden(printable(start, 300), key)}", error.code)


def request(
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    post: bool = False,
    timeout: float = 10.0,
    key: str | None = None,
) -> bytes:
    """GET, or POST with a JSON body; returns the body of a 2xx answer, raises ClientError for all else.

    timeout: s, of the whole exchange. key: the API key, which goes to this URL's host and nowhere else.
    """
    return _request(url, body, post=post, timeout=timeout, key=key).body


def printable(text: str | bytes, most: int) -> str:
    """A stranger's text on one line: white space folded, what steers a terminal or turns text round escaped, cut."""
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    words = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def place(url: str, location: str) -> str:
    """Where a redirect of `url` leads: scheme, host and path. User, password and query are not for the screen."""
    try:
        parts = urlsplit(urljoin(url, location))
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return printable(location.partition("?")[0].rpartition("@")[2], 200)
    return printable(f"{parts.scheme}://{host}{parts.path}", 200)


def remedy(error: ClientError, where: str) -> str:
    """What to do about a server elsewhere that did not answer as it should; `where` its URL is given."""
    if error.tls:
        return TLS_REMEDY
    if error.location:
        base = error.location
        for path in ("/models", "/chat/completions", "/completions"):
            base = base.removesuffix(path)
        return f"set {where} to {base} if that is the server you mean; {NOT_FOLLOWED}"
    if error.status in (401, 403):
        return f"give the API key that the server wants: export {KEY}=…"
    if error.streamed:
        return STREAM_REMEDY
    if error.lasting:
        return f"set {where} to the URL of an OpenAI-compatible server as far as its /v1, without what follows"
    if error.status is not None:
        return "the server is loading, busy or ill: wait until it answers, then run the same command again"
    return f"start that server, or correct {where}"


def key_of(spec: ServerSpec) -> str | None:
    """The key for a spec's server: the environment's for an endpoint. A server of ours wants none and gets none."""
    return environment_key() if spec.endpoint else None


def environment_key() -> str | None:
    """The key that the environment holds for servers that want one."""
    return os.environ.get(KEY, "").strip() or None


def ask(url: str, body: Mapping[str, Any] | None = None, *, timeout: float = 10.0, key: str | None = None) -> Json:
    """The JSON object of a 2xx answer; see `request`."""
    came = _request(url, body, timeout=timeout, key=key)
    try:
        value = json.loads(came.body)
    except (ValueError, RecursionError):
        value = None
    if is_stream(came.body):
        what = f"{url} answered with a stream, though `stream: false` asks for one JSON object"
        raise ClientError(what, answered=True, streamed=True)
    if not isinstance(value, dict):
        kind, start = printable(came.kind, 40) or "no Content-Type", api_key.hidden(printable(came.body, 80), key)
        raise ClientError(f"{url} answered with {kind}, “{start}”, and not with a JSON object", answered=True)
    return value


def is_stream(body: bytes) -> bool:
    """Is this server-sent events, by its first field?"""
    return body.lstrip().startswith((b"data:", b"event:", b": "))


def models(url: str, key: str | None = None, timeout: float = 10.0) -> list[str]:
    """Names in the list at `url` (…/v1/models). Raises ClientError if there is no such list."""
    listed = ask(url, key=key, timeout=timeout).get("data")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ClientError(f"{url} did not answer with a list of models", answered=True)
    return [str(entry.get("id")) for entry in listed]


def names_of(names: Sequence[str], wanted: str = "") -> str:
    """Models that a server lists, those first that are named most like the wanted one."""
    near = difflib.get_close_matches(wanted, names, _SHOWN_NAMES, 0.3)
    shown = list(dict.fromkeys([*near, *names]))[:_SHOWN_NAMES]
    more = len(names) - len(shown)
    return ", ".join(printable(name, 80) for name in shown) + (f" and {more} more" if more > 0 else "") or "no model"


def check_model(url: str, name: str | None, *, key: str | None = None, timeout: float = 10.0) -> None:
    """Raise ClientError unless there is a list of models at `url` that has this one: any web server answers 200."""
    names = models(f"{url}/v1/models", key, timeout)
    if name is not None and name not in names:
        raise ClientError(f"{url} serves {names_of(names, name)}, not '{name}'", answered=True)


def check_server(url: str, name: str | None = None, *, timeout: float = 2.0) -> None:
    """Raise ClientError unless a server of ours is well and serves models, this one among them."""
    try:
        request(f"{url}/health", timeout=timeout)
    except ClientError as error:
        if error.status != 404:  # not every server has it
            raise
    check_model(url, name, timeout=timeout)


def healthy(url: str, name: str | None = None, timeout: float = 2.0) -> bool:
    """Is a server of ours well, and does it serve models, this one among them?"""
    try:
        check_server(url, name, timeout=timeout)
    except ClientError:
        return False
    return True


class Answer(NamedTuple):
    """One completion, and the fingerprint that came with it."""

    completion: Completion
    fingerprint: str | None


def complete(url: str, model: str, *, tokens: int = 16, timeout: float = 120.0, key: str | None = None) -> Answer:
    """One greedy completion of TEST_PROMPT, as a chat where all else is 404. Raises ClientError."""
    body = {"model": model, "max_tokens": tokens, "temperature": 0.0, "stream": False}
    start = time.monotonic()
    try:
        answer = ask(f"{url}/v1/completions", body | {"prompt": TEST_PROMPT}, timeout=timeout, key=key)
    except ClientError as error:
        if error.status != 404:
            raise
        start, turn = time.monotonic(), [{"role": "user", "content": TEST_PROMPT}]
        answer = ask(f"{url}/v1/chat/completions", body | {"messages": turn}, timeout=timeout, key=key)
    elapsed = time.monotonic() - start
    try:
        if answer.get("error"):
            raise ValueError("an error")
        choice = answer["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"].get("content")
        count = (answer.get("usage") or {}).get("completion_tokens")
        fingerprint = answer.get("system_fingerprint")
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        shown = api_key.hidden(printable(json.dumps(answer), 300), key)
        raise ClientError(f"{url}/v1/completions answered without a completion: {shown}", answered=True) from error
    completion = Completion(
        prompt=TEST_PROMPT,
        text=str(text or ""),
        tokens=count if type(count) is int else None,
        e2e_ms=round(elapsed * 1000, 1),
    )
    return Answer(completion, fingerprint if isinstance(fingerprint, str) else None)
