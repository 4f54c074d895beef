"""What a kind of suite gets to collect with: its items, what is kept, and the server, once it is needed."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantbench.quality.prompt_set import Prompt
from quantbench.records.suite import SuiteSettings


@dataclass(frozen=True)
class Server:
    """A running server. name: the model's name in requests; key: its API key, if it wants one."""

    url: str
    name: str
    key: str | None = None


@dataclass(frozen=True)
class Asked:
    """One suite of one model.

    items: none for a kind without a file of them. floor: the concurrency of each repeat, for the baseline only.
    baseline: what was collected of the baseline, for a variant of a kind that needs it (`needs_baseline`), else None.
    kept: answers by names that hash what was asked of this very server, plain data as in JSON; what is put there is on
    the disk at once, and is there again whatever ends the job.
    server: brings the server up and holds it. Entered only where something has to be asked.
    log: what a program that is started says; lmeval_python: the interpreter of lm-eval's environment.
    """

    suite: str
    model: str
    settings: SuiteSettings
    items: Sequence[Prompt]
    kept: MutableMapping[str, Any]
    server: Callable[[], AbstractContextManager[Server]]
    floor: Sequence[int] = ()
    baseline: Sequence[Any] | None = None
    baseline_name: str = "baseline"
    log: Path = Path("suite.log")
    lmeval_python: str = ".venv-lmeval/bin/python"
