"""One run of the pipeline in the folder of a comparison, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from quantbench import ask_lane, last_words
from quantbench.config.command_line import text
from quantbench.errors import QuantbenchError
from quantbench.fleet.folder import LOG
from quantbench.serving import owner, processes
from quantbench.wording import clipped

_OF_ANOTHER_RUN: Final = (
    owner.OWNER, owner.DEVICES, owner.SERVERS, owner.PORTS, owner.BLOCKS, ask_lane.RUN, last_words.TELL
)  # fmt: skip
"""Variables with which a run tells its jobs whose they are: this one is nobody's job."""
_BEGIN: Final = re.compile(r"^quantbench: (?:the run is not finished|the run ended early|interrupted)", re.MULTILINE)
_REFUSED: Final = re.compile(r"^WorkflowError in file .*\n((?:(?!  File ).*\n)+)", re.MULTILINE)
"""How a plan is refused: ours are the lines between two in which Snakemake names its file."""
_BEGUN: Final = "Select jobs to execute..."
"""What Snakemake prints before its first job: from then on only a run that is killed ends without last words."""
KILLED: Final = (
    "killed without a word (by the scheduler, for memory, or with its host); finished blocks are kept, and the same "
    "command goes on from there"
)
MOST: Final = 1_000
"""Characters of last words."""


def run(folder: Path, command: Sequence[str]) -> None:
    """Run the pipeline in `folder` to its end; all that it prints goes to its log.

    The first signal to end is passed on as ctrl-C, upon which a run stops its servers and keeps its blocks; this
    process ends after it. If this process is killed, the run is, and its servers end by themselves. Raises
    QuantbenchError with the run's last words if it does not succeed.
    """
    log = folder / LOG
    print(f"quantbench: {folder.name} runs; to watch it: tail -f {log}", file=sys.stderr, flush=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "quantbench.cli.snakemake", *command[1:]],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a signal to the group would come twice
            preexec_fn=processes.die_with_parent,  # noqa: PLW1509
        )
        signals: list[int] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            signals.append(number)
            if len(signals) == 1:  # after a second ctrl-C Snakemake does not clean up
                with_group(process, signal.SIGINT)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ended = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if ended:
        said = last_words_of(log)
        raise QuantbenchError(
            f"{folder.name} is not finished{f': {said}' if said else ''}",
            remedy=f"mend that and run the fleet again, or look alone: cd {folder} && {text(command)}",
            log=log,
        )


def environment() -> dict[str, str]:
    """This process's variables, keys of the user included, without those that make a job of a run."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_RUN}
    return {**kept, "PYTHONPATH": owner.library_path()}


def with_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process and all that it has started in its group, if it lives."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def last_words_of(log: Path) -> str:
    """Why a run ended, as it has said itself; else `KILLED`, or its last line if it had not begun. Empty: no line."""
    printed = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    said = [printed[match.start() :] for match in _BEGIN.finditer(printed)] or _REFUSED.findall(printed)
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if not said and _BEGUN in lines:
        return KILLED
    return clipped(" ".join(said[-1].split()) if said else lines[-1] if lines else "", MOST)
