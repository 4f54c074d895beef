"""The key of a server that wants one: the header that carries it, and that no text shows it."""

from __future__ import annotations

from quantbench.errors import QuantbenchError

NAME = "OPENAI_API_KEY"
"""The variable that holds it; never part of a configuration, which is printed and kept."""


def authorization(key: str | None) -> dict[str, str]:
    """The header of a request with this key; none without. Raises QuantbenchError for what cannot be in a header."""
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):  # a line break would begin a header of its own
        raise QuantbenchError(
            "the API key holds a line break or a character that is not ASCII",
            remedy=f"set {NAME} (or --api-key) to the key alone, as the server's owner gave it",
        )
    return {"Authorization": f"Bearer {key}"}


def hidden(text: str, key: str | None) -> str:
    """The text without the key: servers like to quote it in what they refuse."""
    return text.replace(key, "[key]") if key else text
