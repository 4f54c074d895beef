"""The one exception whose message is meant for the user."""

from __future__ import annotations

from pathlib import Path

from quantbench.visible import visible


class QuantbenchError(Exception):
    """A failure with its cause, what to do about it, and where to read more.

    `what` names the key, file or server at fault; `remedy` is an instruction; `log` a file that is kept.
    """

    def __init__(self, what: str, *, remedy: str = "", log: Path | str | None = None) -> None:
        self.what, self.remedy, self.log = what, remedy, log
        lines = [what]
        if remedy:
            lines.append(f"  remedy: {remedy}")
        if log:
            lines.append(f"  log:    {log}")
        super().__init__(visible("\n".join(lines)))
