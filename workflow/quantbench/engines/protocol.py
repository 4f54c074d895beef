"""A server's spec, and what quantbench asks of the engine that serves it.

A spec is plain JSON and the only thing that defines a server; `Plan.server_spec` makes it. `/v1/models` and completions
are the same for every engine: `engines/openai_api`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Spec = Mapping[str, Any]
Json = dict[str, Any]

HOST = "127.0.0.1"
"""Our servers listen on the loopback interface only."""
UNQUANTIZED = ("none", "bf16", "fp16", "")
"""Values of `quantization` in a config that claim none."""


def spec_hash(spec: Spec) -> str:
    """12 hex digits that name this exact server."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]


def url_of(spec: Spec) -> str:
    """Base URL without a trailing slash (and without /v1)."""
    if spec["endpoint"]:
        return str(spec["endpoint"]).rstrip("/").removesuffix("/v1")
    return f"http://{HOST}:{spec['port']}"


@dataclass(frozen=True)
class StartFacts:
    """What the log of one start says, as ready.json holds it; each section has `missing` {field that is None: why}."""

    startup: Json
    memory: Json
    settings: Json


@dataclass(frozen=True)
class Diagnosis:
    """Why a start failed and what to do; `line` is the line of the log that says so."""

    cause: str
    remedy: str
    line: str


@dataclass(frozen=True)
class Hub:
    """Where an engine looks for a model of the hub: the cache's folder and the revision (a branch, tag or commit)."""

    cache: Path
    revision: str


class Engine(Protocol):
    """A program that serves models. `mode` is a resolved one (`serving.server.resolve_mode`), `url` as of `url_of`."""

    NAME: str
    """Its key in the `versions` of ready.json."""
    UNSET: tuple[str, ...]
    """Variables of the caller that a server must not inherit."""

    # Before a start
    def command(self, spec: Spec, mode: str) -> tuple[list[str], dict[str, str]]:
        """(argv, additions to the environment). Raises QuantbenchError for a spec that it cannot serve."""

    def serve_script(self, spec: Spec, mode: str) -> str:
        """The same command as a shell script to run by hand."""

    def installed(self, spec: Spec) -> dict[str, str | None]:
        """{NAME, torch, python}: versions where the server will run; None where they cannot be read."""

    def no_sleep_reason(self, version: str | None) -> str:
        """Why this version cannot sleep, "" if it can; an unknown version is taken to."""

    def hub(self, spec: Spec) -> Hub:
        """Where it looks for the spec's model, if that is one of the hub."""

    def inherited(self, spec: Spec, mode: str) -> dict[str, str]:
        """Variables of the caller that it reads and the spec does not set: not part of the spec, but of the result."""

    def compile_caches(self, folder: Path) -> dict[str, str]:
        """Variables that put all its compile caches below `folder`."""

    # A running server
    def healthy(self, url: str, timeout: float = 2.0) -> bool:
        """Does it answer that it can serve?"""

    def version(self, url: str) -> str | None:
        """Its version; None where it does not say."""

    def logits(self, url: str, model: str) -> Json:
        """Are its logits numbers? {finite: true | false | null, seen, missing}."""

    def tokenizer(self, url: str, model: str) -> Json:
        """{probe_sha256, chat_probe_sha256, chat_bos_count, chat_is_plain}, null where it offers no tokenizer."""

    def sleep(self, url: str) -> float:
        """Free the device, keep the process; seconds taken. Raises openai_api.ClientError."""

    def wake(self, url: str) -> float:
        """The way back; seconds taken. Raises openai_api.ClientError."""

    def is_sleeping(self, url: str) -> bool | None:
        """Does it say that it sleeps? None where it does not say."""

    # Its metrics page
    def metrics_page(self, url: str, timeout: float = 10.0) -> str:
        """The page as text, "" where there is none."""

    def snapshot(self, page: str) -> Json:
        """Counters, gauges and cache facts of a page under the names of docs/architecture.md."""

    def difference(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
        """Counters of `after` minus those of `before`; {"restarted": True} where that means nothing."""

    def peak(self, snapshots: Sequence[Mapping[str, Any]]) -> Json:
        """{running, waiting, kv_usage}: the highest of several snapshots."""

    # Its log
    def start_facts(self, log: str) -> StartFacts:
        """Start-up phases, memory and settings of the last start in a log; never raises."""

    def incidents(self, log: str) -> list[dict[str, str]]:
        """What disturbed a measurement, in a stretch of a running server's log: [{id, line}]."""

    def diagnose(self, log: str) -> Diagnosis | None:
        """Why the last start in a log failed; None where the log holds no error."""

    def check_quantization(
        self, spec: Spec, log: str, log_path: str, folder: Path | None, baseline_weights_gib: float | None
    ) -> Json:
        """The `quantization` entry of ready.json. Raises QuantbenchError where the model is not what its config says.

        folder: the model's files. baseline_weights_gib: weight memory of an unquantized server beside this one.
        """
