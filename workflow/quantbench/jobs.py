"""The frame of every script: progress on stderr, errors in words, and no job that outlives its run."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantbench import last_words, terminal
from quantbench.config import configuration
from quantbench.config.secret_words import hidden
from quantbench.errors import QuantbenchError
from quantbench.records.base import convert
from quantbench.records.server import ServerSpec
from quantbench.serving import owner
from quantbench.visible import visible


def run(job: Any, main: Callable[[Any], None]) -> None:
    """Call `main(job)` (job is `snakemake`) and exit 1 if it fails.

    A QuantbenchError is a message for the user: it goes to stderr and to the rule's log, without a traceback. Any other
    error is ours: the log gets the traceback, stderr its last line.
    """
    owner.end_with_owner()
    terminal.outlive()
    log = Path(str(job.log[0])) if len(job.log) else None
    if not attempt(log, lambda: main(job)):
        sys.exit(1)


def attempt(log: Path | None, work: Callable[[], None], *, last: bool = True) -> bool:
    """Do the work of a job; False if it failed, and then its words are told as `run` says.

    last: after it the job is done, and its log says so.
    """
    try:
        work()
    except QuantbenchError as error:
        _fail(log, str(error), str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        _fail(log, traceback.format_exc(), f"{type(error).__name__}: {error}" + (f"\n  log:    {log}" if log else ""))
    else:
        if log and last:
            _write(log, "done\n")
        return True
    return False


def spec(job: Any) -> ServerSpec:
    """The whole spec of a job's server: what its result depends on is in the params, its place in the config."""
    measured = job.params.spec
    return convert(configuration.whole_spec(measured, job.config["places"][measured["model"]]), ServerSpec)


def _fail(log: Path | None, whole: str, short: str) -> None:
    said = visible(hidden(short, os.environ))
    last_words.tell(said)
    if log:
        _write(log, hidden(whole, os.environ) + "\n")
    print(said, file=sys.stderr, flush=True)


def _write(log: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # no room for a log: what is measured is not lost for that
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as handle:
            handle.write(text)
