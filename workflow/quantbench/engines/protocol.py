"""What quantbench asks of the engine that serves a spec.

`/health`, `/v1/models` and completions are the same for every engine: `engines/openai_api`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quantbench.records.block import Delta, Incident, Page, Peak
from quantbench.records.server import (
    Logits,
    Memory,
    Mode,
    Quantization,
    ServerSpec,
    Settings,
    Startup,
    Step,
    Tokenizer,
    Versions,
)

UNQUANTIZED = ("none", "bf16", "fp16", "")
"""Values of `quantization` in a config that claim none."""


@dataclass(frozen=True)
class StartFacts:
    """What the log of one start says, as ready.json holds it."""

    startup: Startup
    memory: Memory
    settings: Settings


@dataclass(frozen=True)
class Diagnosis:
    """Why a start failed and what to do; `line` is the line of the log that says so.

    signal: the one that ended a process of the server, if the log tells. certain: the cause is one that is known.
    """

    cause: str
    remedy: str
    line: str
    signal: int | None = None
    certain: bool = True


@dataclass(frozen=True)
class Hub:
    """Where an engine looks for a model of the hub: the cache's folder and the revision (a branch, tag or commit)."""

    cache: Path
    revision: str


class Engine(Protocol):
    """A program that serves models. `mode` is one of `serving.server.mode_of`, `url` as of `ServerSpec.url`."""

    UNSET: tuple[str, ...]
    """Variables of the caller that a server must not inherit."""

    # Before a start
    def command(self, spec: ServerSpec, mode: Mode) -> tuple[list[str], dict[str, str]]:
        """(argv, additions to the environment). Raises QuantbenchError for a spec that it cannot serve."""

    def serve_script(self, spec: ServerSpec, mode: Mode) -> str:
        """The same command as a shell script to run by hand."""

    def installed(self, spec: ServerSpec) -> Versions:
        """Its own, torch's and Python's where the server will run; None where they cannot be read."""

    def no_sleep_reason(self, version: str | None) -> str:
        """Why this version cannot sleep, "" if it can; an unknown version is taken to."""

    def no_gguf_reason(self, spec: ServerSpec) -> str:
        """Why a server of this spec takes no GGUF file, "" if it does; an unknown version is taken to."""

    def unknown_version(self, version: str | None) -> str:
        """What to expect of a version that nobody has looked at, "" for a known one."""

    def hub(self, spec: ServerSpec) -> Hub:
        """Where it looks for the spec's model, if that is one of the hub."""

    def inherited(self, spec: ServerSpec, mode: Mode) -> dict[str, str]:
        """Variables of the caller that it reads and the spec does not set: not part of the spec, but of the result."""

    def check_claim(self, spec: ServerSpec, folder: Path | None) -> None:
        """Raises QuantbenchError where the model's files, in `folder`, are not quantized as its config says."""

    def compile_caches(self, folder: Path) -> dict[str, str]:
        """Variables that put all its compile caches below `folder`."""

    # A running server; `key` is the API key of one that is not ours
    def version(self, url: str, key: str | None = None) -> str | None:
        """Its version; None where it does not say."""

    def logits(self, url: str, model: str, key: str | None = None) -> Logits:
        """Are its logits numbers?"""

    def tokenizer(self, url: str, model: str, key: str | None = None) -> Tokenizer:
        """Its tokenizer by what it makes of probe texts; null where it offers none."""

    def sleep(self, url: str) -> None:
        """Free the device, keep the process. Raises openai_api.ClientError."""

    def wake(self, url: str) -> None:
        """The way back. Raises openai_api.ClientError."""

    def is_sleeping(self, url: str) -> bool | None:
        """Does it say that it sleeps? None where it does not say."""

    def changed_answer(self, url: str, model: str, before: str) -> str:
        """How it answers the test prompt otherwise than `before`, "" if not. Raises openai_api.ClientError."""

    # Its metrics page
    def metrics_page(self, url: str, timeout: float = 10.0, key: str | None = None) -> str:
        """The page as text, "" where there is none."""

    def snapshot(self, page: str) -> Page:
        """The figures of a page."""

    def difference(self, before: Page, after: Page) -> Delta:
        """Counters of `after` minus those of `before`."""

    def peak(self, pages: Sequence[Page]) -> Peak:
        """The highest gauges of several pages."""

    # Its log
    def start_facts(self, log: str) -> StartFacts:
        """Start-up phases, memory and settings of the last start in a log; never raises."""

    def incidents(self, log: str) -> tuple[Incident, ...]:
        """What disturbed a measurement, in a stretch of a running server's log."""

    def diagnose(self, log: str) -> Diagnosis | None:
        """Why the last start in a log failed; None where the log holds no error."""

    def check_quantization(
        self, spec: ServerSpec, log: str, log_path: str, folder: Path | None, baseline_weights_gib: float | None
    ) -> Quantization:
        """The `quantization` entry of ready.json. Raises QuantbenchError where the model is not what its config says.

        folder: the model's files. baseline_weights_gib: weight memory of an unquantized server beside this one.
        """

    def step(self, spec: ServerSpec, folder: Path | None, served: str | None) -> Step | None:
        """What one decode step reads and multiplies; None where the files do not tell.

        folder: the model's files. served: label of the quantization that runs, such as W4A16.
        """
