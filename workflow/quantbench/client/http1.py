"""An incremental parser of HTTP/1.1 replies (RFC 9112), as little of it as a load client needs.

Why our own: the parser runs between two arrivals, so its cost is the client's own delay. The usual read, one whole
chunk, takes the fast path of `ReplyParser.feed`. What is not valid HTTP raises `HttpError` and is never guessed at.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache


class HttpError(ValueError):
    """The peer does not speak HTTP/1.1."""


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()  # a body of known length
    UNTIL_CLOSE = auto()
    SIZE = auto()  # chunked: before a chunk
    CHUNK = auto()  # chunked: within a chunk
    CHUNK_END = auto()  # chunked: before the CR LF that ends a chunk
    TRAILER = auto()
    DONE = auto()


_SIZE, _DONE = _State.SIZE, _State.DONE  # asked for at every read, and looking up a member of an enum is slow
_MAX_HEAD = 1 << 16
_MAX_SIZE_LINE = 1 << 10
MAX_INTERIM = 16
"""Interim replies (100 Continue, 103 Early Hints) before the real one."""
_MAX_DIGITS = 18  # of a Content-Length: more is nonsense
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ReplyParser:
    """One reply. Feed it what arrives; it hands back the bytes of the body."""

    __slots__ = ("_at", "_buffer", "_interim", "_left", "_state", "keep_alive", "location", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.location: str | None = None
        """Where a redirect (3xx) leads, as it is written."""
        self._interim = 0
        self.keep_alive = True
        self._state = _State.HEAD
        self._buffer = b""
        self._at = 0
        self._left = 0

    @property
    def done(self) -> bool:
        """The reply is whole."""
        return self._state is _DONE

    def end_of_stream(self) -> bool:
        """The peer has closed: was the reply whole by then?"""
        if self._state is _State.UNTIL_CLOSE:
            self._state = _State.DONE
        return self.done

    def feed(self, data: bytes) -> bytes:
        """Body bytes in `data`. Raises HttpError."""
        if self._state is _SIZE and not self._buffer:
            end = data.find(b"\r\n", 0, 10)
            if end > 0:
                size = _usual_size(data[:end])
                if size and len(data) == end + size + 4 and data.endswith(b"\r\n"):
                    return data[end + 2 : -2]
        return self._slow(data)

    def _slow(self, data: bytes) -> bytes:
        """The general case: any number of pieces of anything."""
        self._buffer, self._at = self._buffer[self._at :] + data, 0
        body = []
        while self._at < len(self._buffer) and self._state is not _State.DONE:
            if self._state is _State.UNTIL_CLOSE:
                body.append(self._take(len(self._buffer) - self._at))
            elif self._state in (_State.LENGTH, _State.CHUNK):
                piece = self._take(min(self._left, len(self._buffer) - self._at))
                self._left -= len(piece)
                body.append(piece)
                if not self._left:
                    self._state = _State.DONE if self._state is _State.LENGTH else _State.CHUNK_END
            elif not self._step():
                break
        if self._at == len(self._buffer):
            self._buffer, self._at = b"", 0
        elif self._state is _State.DONE:
            raise HttpError("bytes after the end of the reply")
        return b"".join(body)

    def _step(self) -> bool:
        """Parse one head, size line, chunk end or trailer line; False if more bytes are needed."""
        if self._state is _State.HEAD:
            return self._head()
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            if len(self._buffer) - self._at > _MAX_SIZE_LINE:
                raise HttpError("a chunk's size line has no end")
            return False
        line = self._take(end + 2 - self._at)[:-2]
        if self._state is _State.CHUNK_END:
            if line:
                raise HttpError("a chunk is longer than its size")
            self._state = _State.SIZE
        elif self._state is _State.TRAILER:
            self._left += len(line) + 2
            if self._left > _MAX_HEAD:
                raise HttpError("a trailer without end")
            if not line:
                self._state = _State.DONE
        else:
            self._left = _chunk_size(line)
            self._state = _State.CHUNK if self._left else _State.TRAILER
        return True

    def _head(self) -> bool:
        """Parse the status line and the headers."""
        end = self._buffer.find(b"\r\n\r\n", self._at)
        head = self._buffer[self._at : end if end >= 0 else None]
        if not b"HTTP/1.".startswith(head[:7]) or b"\n" in head.replace(b"\r\n", b""):
            raise HttpError(f"not an HTTP/1.1 reply, or its lines do not end in CR LF: {head[:60]!r}")
        if end < 0:
            if len(head) > _MAX_HEAD:
                raise HttpError(f"a head without end: {head[:60]!r}")
            return False
        if len(head) > _MAX_HEAD:
            raise HttpError(f"a head of more than {_MAX_HEAD} bytes: {head[:60]!r}")
        self._at = end + 4
        lines = head.split(b"\r\n")
        version, _, rest = lines[0].partition(b" ")
        status = rest.partition(b" ")[0]
        if version not in (b"HTTP/1.0", b"HTTP/1.1") or len(status) != 3 or not status.isdigit():
            raise HttpError(f"not an HTTP/1.1 reply: {lines[0][:60]!r}")
        code = int(status)
        if 100 <= code < 200:  # an interim reply; the real one follows
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise HttpError(f"more than {MAX_INTERIM} interim replies (HTTP {code})")
            return True
        self.status = code
        headers: dict[bytes, list[bytes]] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers.setdefault(name.strip().lower(), []).extend(v.strip() for v in value.lower().split(b","))
        if 300 <= code < 400:
            found = (line[9:] for line in lines if line[:9].lower() == b"location:")
            self.location = next(found, b"").strip().decode("latin-1") or None
        self.keep_alive = version == b"HTTP/1.1" and b"close" not in headers.get(b"connection", [])
        self._begin_body(code, headers)
        return True

    def _begin_body(self, code: int, headers: dict[bytes, list[bytes]]) -> None:
        """Choose the framing of the body (RFC 9112, section 6.3)."""
        if strange := [word for word in headers.get(b"content-encoding", []) if word not in (b"", b"identity")]:
            raise HttpError(f"Content-Encoding {b', '.join(strange)[:40]!r}, which nobody asked for")
        coding, lengths = headers.get(b"transfer-encoding"), set(headers.get(b"content-length", []))
        length = min(lengths, default=b"")
        if code in (204, 304):
            self._state = _State.DONE
        elif coding is not None:
            if coding != [b"chunked"]:
                raise HttpError(f"Transfer-Encoding {b', '.join(coding)[:40]!r}, which nobody asked for")
            self._state = _State.SIZE
        elif not lengths:
            self._state, self.keep_alive = _State.UNTIL_CLOSE, False
        elif len(lengths) > 1 or not length.isdigit() or len(length) > _MAX_DIGITS:
            raise HttpError(f"bad Content-Length {b', '.join(sorted(lengths))[:40]!r}")
        else:
            self._left = int(length)
            self._state = _State.LENGTH if self._left else _State.DONE

    def _take(self, count: int) -> bytes:
        """The next `count` bytes."""
        self._at += count
        return self._buffer[self._at - count : self._at]


def _chunk_size(line: bytes) -> int:
    """The size in a chunk's first line; extensions are ignored."""
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
        raise HttpError(f"bad chunk size {line[:40]!r}")
    return int(digits, 16)


_usual_size = lru_cache(maxsize=1024)(_chunk_size)
"""The same for short lines: the chunks of a stream have few sizes."""
