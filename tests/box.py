"""A copy of the project in a temporary folder with a small configuration and stand-in servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fault_table import RECORD
from ports import free_ports
from quantbench.config.schema import deep_merge
from quantbench.serving import owner, processes
from servers import FAKE, left_over
from source import copy_part

PARTS = ("Snakefile", "fleet.smk", "rules", "workflow", "config", "data", "profiles", "envs")
GPU = "fake"


def small_config() -> dict[str, Any]:
    """Two models on one lane, one on another; two cells each, blocks of a fraction of a second."""
    lanes = {"alpha": "one", "beta": "one", "gamma": "two"}
    return {
        "gpu": GPU,
        "lanes": {"one": {"devices": ["cpu"]}, "two": {"devices": ["7"]}},
        "server": {
            "command": [sys.executable, str(FAKE)],
            "platform": "cpu",
            "max_model_len": 2048,
            "kv_cache_gib": 0.1,
            "start_timeout_s": 60,
        },
        "models": {
            name: {"source": f"models/{name}", "load_format": "dummy", "port": port, "lane": lanes[name]}
            for name, port in zip(lanes, free_ports(3), strict=True)
        },
        "select": ["alpha", "beta"],
        "baseline": "alpha",
        "workloads": {"chat": {"prompts": "config/prompts/chat.jsonl", "concurrency": [1, 4], "max_tokens": [16]}},
        "primary": {"concurrency": 4},
        "blocks": 2,
        "starts": 1,
        "block": {"min_seconds": 0.2, "timeout_s": 20},
        "aa_control": False,
        "quality": {"prompts": None},
        "cost": {"hourly_price": 1.0, "source": "test", "date": "2026-11-01"},
    }


class Box:
    """One working folder; every process of it carries the folder's state dir in its environment."""

    gpu = GPU
    timeout = 500

    def __init__(self, path: Path) -> None:
        self.copy_project(path)
        defaults = yaml.safe_load((path / "config/config.yaml").read_text())
        for key in ("workloads", "primary"):
            defaults.pop(key)
        (path / "config/config.yaml").write_text(yaml.safe_dump(defaults, sort_keys=False))
        self.config: dict[str, Any] = {}
        self.configure(**small_config())
        for name in self.config["models"]:
            folder = path / "models" / name
            folder.mkdir(parents=True)
            (folder / "config.json").write_text('{"model_type": "fake"}')

    def copy_project(self, path: Path) -> None:
        """What a run needs of the project, in a new folder."""
        self.path, self.state = path, path / "state"
        self.profile = ["--config", f"gpu={self.gpu}"]
        self.shell: dict[str, str] = {}
        path.mkdir(parents=True)
        for part in PARTS:
            copy_part(part, path)

    def configure(self, **changes: Any) -> None:
        """Merge these values into the configuration, which is this box's profile."""
        self.config = deep_merge(self.config, changes)
        (self.path / f"config/gpus/{self.gpu}.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def environment(self) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith("QUANTBENCH_")}
        return {**others, owner.STATE: str(self.state), **self.shell}

    def command_line(self, *targets: str, cores: int = 1, options: Sequence[str] = ()) -> list[str]:
        return ["snakemake", "--cores", str(cores), "--nocolor", *options, *self.profile, "--", *targets]

    def run(self, *targets: str, cores: int = 1, options: Sequence[str] = (), ok: bool | None = True) -> str:
        """Run snakemake to its end, which must be good, bad (`ok=False`) or either (None); returns what it printed."""
        return self.execute(*self.command_line(*targets, cores=cores, options=options), ok=ok)

    def plan(self, *targets: str) -> dict[str, int]:
        """The jobs that a run would have."""
        printed = self.run(*targets, options=["--dry-run"])
        assert ("Nothing to be done" in printed) == (not jobs(printed)), printed[-6000:]
        return jobs(printed)

    def execute(self, *module: str, ok: bool | None = True) -> str:
        """Run a Python module to its end, as `run` does."""
        line = [sys.executable, "-m", *module]
        library = {"PYTHONPATH": str(self.path / "workflow")} if module[0] == "quantbench" else {}
        where: dict[str, Any] = {"cwd": self.path, "env": self.environment() | library, "timeout": self.timeout}
        ran = subprocess.run(line, **where, text=True, capture_output=True, check=False)
        printed = ran.stdout + ran.stderr
        assert ok is None or (ran.returncode == 0) == ok, printed[-6000:]
        return printed

    def spawn(self, *targets: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", *self.command_line(*targets)]
        with self.out.open("ab") as out:
            where: dict[str, Any] = {"cwd": self.path, "env": self.environment(), "stdout": out}
            return subprocess.Popen(line, **where, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def out(self) -> Path:
        """What spawned runs print."""
        return self.path / "out.txt"

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the lanes did: the events.jsonl of all servers, in order."""
        events = [json.loads(line) for path in self._event_files() for line in path.read_text().splitlines()]
        return sorted((e for e in events if kind in (None, e["event"])), key=lambda e: e["t"])

    def started(self) -> list[str]:
        return [event["model"] for event in self.events("start")]

    def forget_events(self) -> None:
        for path in self._event_files():
            path.unlink()

    def _event_files(self) -> list[Path]:
        return list(self.path.glob(f"results/{self.gpu}/servers/*/events.jsonl"))

    def wait_for(self, condition: Callable[[], Any]) -> None:
        assert processes.until(lambda: bool(condition()), 240), self.out.read_text()[-4000:]

    def file(self, path: str) -> Path:
        """A result file."""
        return self.path / "results" / self.gpu / path

    def results(self, pattern: str) -> list[str]:
        """Result files that match, sorted, from the folder's root."""
        return sorted(str(p.relative_to(self.path)) for p in self.path.glob(f"results/{self.gpu}/{pattern}"))

    def living(self) -> Mapping[int, str]:
        """Living processes of this box."""
        return left_over(self.state)

    def assert_none_left(self, since: float | None = None) -> None:
        """`since`: time.monotonic() of the fault, where it is of interest how long the clean-up took."""
        assert processes.until(lambda: not self.living(), 60, every=0.1), self.living()
        if since is not None and (record := os.environ.get(RECORD)):
            test = os.environ["PYTEST_CURRENT_TEST"].partition("[")[0].partition(" (")[0]
            with Path(record).open("a") as file:
                file.write(json.dumps([test, round(time.monotonic() - since, 2)]) + "\n")

    def clean_up(self) -> None:
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def jobs(printed: str) -> dict[str, int]:
    """The job table of a run, rule -> count; empty where nothing is to be done."""
    table = printed.partition("Job stats:")[2].partition("\n\n")[0]
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)\b", table, re.MULTILINE)}
    return {name: count for name, count in counts.items() if name != "total"}
