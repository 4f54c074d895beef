"""What looks like a secret, by its name or by its shape: refused in a configuration, hidden in what is quoted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from quantbench.config.own_settings import taken_as

_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET: Final = re.compile(
    r"\w*(KEYS?|TOKEN|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?|BEARER|AUTHORIZATION|COOKIE)"
)
_OF_TEXT: Final = (
    "BOS", "EOS", "PAD", "UNK", "SEP", "CLS", "MASK", "IMAGE", "VIDEO", "AUDIO", "STOP", "START", "END", "BEGIN",
    "THINK", "SPECIAL", "DRAFT",
)  # fmt: skip
"""Tokens that are text to a model, such as pad_token: no secret."""
_PLACES: Final = ("PATH", "FILE", "DIR", "FOLDER")
"""Names that end so say where something lies; GOOGLE_APPLICATION_CREDENTIALS is such a name, too."""
_SWITCHES: Final = ("", "0", "1", "true", "false", "yes", "no", "on", "off", "none", "null")

_SHAPE: Final = re.compile(
    r"(?<![\w-])(?:"
    r"hf_[A-Za-z0-9]{16,}|(?<!/)sk-(?:(?:proj|ant|or-v1|svcacct)-[\w-]{6,}|[A-Za-z0-9]{16,})"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|nvapi-[\w-]{16,}|xox[a-z]-[\w-]{8,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|(?i:\bbearer )(?=\S*\d)[\w.~+/=-]{8,}"
    r"|(?i:[?&;](?:\w*(?:token|key|secret|password|signature))=)[^\s&\"']{6,}"
    r"|(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s\"'@]+@"
)
_WHOLE: Final = re.compile(r"hf_[A-Za-z0-9]{8,}|sk-[\w-]{8,}")
"""The whole value of an argument or a variable; elsewhere a model's name may be so (sk-bert-base is Slovak)."""
_NAME: Final = re.compile(r"[\w.+-]+")
_ITEM: Final = re.compile(r'"([^"\\]+)"\s*:\s*"([^"\\]*)"')
_HIDDEN_FROM: Final = 6
"""Letters: a shorter value would be found in the middle of words."""


def names_secret(name: str, value: str) -> bool:
    """Is `value` a secret, by its name (HF_TOKEN, api_key, myPassword)? Switches, sizes and places are none."""
    parts = [part.upper() for part in _PART.findall(name)]
    if not parts or value.lower() in _SWITCHES or parts[-1] in _PLACES or name == "GOOGLE_APPLICATION_CREDENTIALS":
        return False
    of_text = {after for before, after in pairwise(parts) if before in _OF_TEXT and after == "TOKEN"}
    found = [part for part in parts if _SECRET.fullmatch(part) and part not in of_text]
    counted = value.replace(".", "", 1).isdigit() and not _SECRET.fullmatch(parts[-1])  # …_TOKEN_THRESHOLD=256
    return bool(found) and not counted


def has_secret(text: str) -> bool:
    """Does the text hold something of the shape of a secret: a well-known key, or a URL with a user or password?"""
    return bool(_SHAPE.search(text))


def hidden(text: str, environ: Mapping[str, str]) -> str:
    """The text without secrets: values of variables that are secret by their name become it, shapes become dots."""
    values = {v: k for k, v in environ.items() if len(v) >= _HIDDEN_FROM and names_secret(k, v)}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, f"[{values[value]}]")
    return _SHAPE.sub("[…]", text)


def in_config(config: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(key, what is there) of everything in a configuration that looks like a secret; never the secret itself.

    The configuration may be of any shape: this comes before all other checks, whose messages show values.
    """
    key, last = ".".join(where), where[-1:]
    if isinstance(config, Mapping):
        for name, item in config.items():
            if "env" in where and not isinstance(item, Mapping | list) and _is_secret(str(name), str(item)):
                yield key, _named(str(name))
            else:
                yield from in_config(item, (*where, str(name)))
    elif isinstance(config, list):
        yield from ((key, what) for what in (_in_words(config) if last in _WORDS else ()))
        for item in config:
            if not isinstance(item, str) or last not in _WORDS:
                yield from in_config(item, where)
    elif isinstance(config, str) and last in _WORDS:
        yield from ((key, what) for what in _in_words(config.split()))
    elif isinstance(config, str) and last == ("endpoint",) and "@" in re.split(r"[/?#]", _after_scheme(config))[0]:
        yield key, "a user or a password"
    elif isinstance(config, str) and has_secret(config):
        yield key, _named("a value")


_WORDS: Final = (("args",), ("command",), ("env",))


def _is_secret(name: str, value: str) -> bool:
    return names_secret(name, value) or bool(_WHOLE.fullmatch(value)) or has_secret(value) or has_secret(name)


def _named(name: str) -> str:
    return f"{'a value' if has_secret(name) or not name else name}, which looks like a secret"


def _after_scheme(url: str) -> str:
    return url.partition("://")[2] or url


def _in_words(items: list[Any]) -> Iterator[str]:
    """Arguments, `NAME=value` words and keys within JSON that hold a secret. Flags of ours are refused elsewhere."""
    words = [item for item in items if isinstance(item, str)]
    for word, following in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        if word.startswith("-") and not equals and not following.startswith("-"):
            value = following
        name = flag if _NAME.fullmatch(flag) and (word.startswith("-") or equals) else ""
        if not taken_as(word) and _is_secret(name.rpartition(".")[2], value if name else word):
            yield _named(name)
        yield from (_named(inner) for inner, item in _ITEM.findall(word) if _is_secret(inner, item))
