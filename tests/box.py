"""A copy of the project in a temporary folder with a small configuration and stand-in servers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ports import free_ports

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "rules", "workflow", "config", "data", "profiles", "envs")
GPU = "fake"
STATE = "QUANTBENCH_STATE_DIR"


def small_config(command: list[str]) -> dict[str, Any]:
    """Two models on one lane, one on another; two cells each, blocks of a fraction of a second."""
    ports = free_ports(3)
    return {
        "gpu": GPU,
        "lanes": {"one": {"devices": ["cpu"]}, "two": {"devices": ["7"]}},
        "server": {
            "command": command,
            "platform": "cpu",
            "max_model_len": 2048,
            "kv_cache_gib": 0.1,
            "start_timeout_s": 60,
        },
        "models": {
            name: {"source": f"models/{name}", "load_format": "dummy", "port": port, "lane": lane}
            for name, port, lane in zip(("alpha", "beta", "gamma"), ports, ("one", "one", "two"), strict=True)
        },
        "select": ["alpha", "beta"],
        "baseline": "alpha",
        "workloads": {
            "chat": {"prompts": "config/prompts/chat.jsonl", "concurrency": [1, 4], "max_tokens": [16]},
        },
        "primary": {"concurrency": 4},
        "blocks": 2,
        "block": {"min_seconds": 0.2, "timeout_s": 20},
        "aa_control": False,
        "quality": {"prompts": None},
        "cost": {"hourly_price": 1.0, "source": "test", "date": "2026-11-01"},
    }


class Box:
    """One working folder; every process of it carries the folder's state dir in its environment."""

    gpu = GPU
    timeout = 500

    def __init__(self, path: Path, command: list[str]) -> None:
        self.command = command
        self.copy_project(path)
        defaults = yaml.safe_load((path / "config/config.yaml").read_text())
        for key in ("workloads", "primary"):
            defaults.pop(key)
        (path / "config/config.yaml").write_text(yaml.safe_dump(defaults, sort_keys=False))
        self.config = small_config(command)
        self.save()
        for name in self.config["models"]:
            folder = path / "models" / name
            folder.mkdir(parents=True)
            (folder / "config.json").write_text('{"model_type": "fake"}')

    def copy_project(self, path: Path) -> None:
        """What a run needs of the project, in a new folder."""
        self.path, self.state = path, path / "state"
        path.mkdir(parents=True)
        for part in PARTS:
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copy2)(ROOT / part, path / part)

    def save(self) -> None:
        """Write the configuration as this box's profile."""
        (self.path / f"config/gpus/{self.gpu}.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def environment(self) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith("QUANTBENCH_")}
        return {**others, STATE: str(self.state)}

    def command_line(self, *args: str, cores: int = 1) -> list[str]:
        return [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            str(cores),
            "--nocolor",
            "--config",
            f"gpu={self.gpu}",
            "--",
            *args,
        ]

    def run(self, *args: str, cores: int = 1, options: list[str] | None = None, ok: bool | None = True) -> str:
        """Run snakemake to its end, which must be good, bad (`ok=False`) or either (None); returns what it printed."""
        line = self.command_line(*args, cores=cores)
        at = line.index("--nocolor")
        line[at:at] = options or []
        done = subprocess.run(
            line,
            cwd=self.path,
            env=self.environment(),
            text=True,
            timeout=self.timeout,
            capture_output=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert ok is None or (done.returncode == 0) == ok, printed[-6000:]
        return printed

    def spawn(self, *args: str, cores: int = 1) -> subprocess.Popen[bytes]:
        with (self.path / "out.txt").open("ab") as out:
            return subprocess.Popen(
                self.command_line(*args, cores=cores),
                cwd=self.path,
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the lanes did: the events.jsonl of all servers, in order."""
        events = [
            json.loads(line)
            for path in self.path.glob(f"results/{self.gpu}/servers/*/events.jsonl")
            for line in path.read_text().splitlines()
        ]
        return sorted((e for e in events if kind in (None, e["event"])), key=lambda e: e["t"])

    def started(self) -> list[str]:
        return [event["model"] for event in self.events("start")]

    def forget_events(self) -> None:
        for path in self.path.glob(f"results/{self.gpu}/servers/*/events.jsonl"):
            path.unlink()

    def wait_for(self, condition: Any, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.path / "out.txt").read_text()[-4000:]
            time.sleep(0.02)

    def results(self, pattern: str) -> list[str]:
        """Result files that match, sorted, from the folder's root."""
        return sorted(str(p.relative_to(self.path)) for p in self.path.glob(f"results/{self.gpu}/{pattern}"))

    def living(self) -> Mapping[int, str]:
        """Living processes of this box."""
        processes = {}
        mark = f"{STATE}={self.state}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if alive and mark in (entry / "environ").read_bytes().split(b"\0"):
                    processes[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")[:120]
        return processes

    def assert_none_left(self, within: float = 60) -> None:
        end = time.monotonic() + within
        while self.living() and time.monotonic() < end:
            time.sleep(0.1)
        assert not self.living()

    def clean_up(self) -> None:
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def jobs(printed: str) -> dict[str, int]:
    """The job table of a run: rule -> count."""
    lines = printed.splitlines()
    if not any(line.startswith("Job stats") for line in lines):
        return {}
    begin = next(n for n, line in enumerate(lines) if line.startswith("Job stats")) + 3
    table = {}
    for line in lines[begin:]:
        if not line.strip():
            break
        name, count = line.split()[:2]
        table[name] = int(count)
    table.pop("total", None)
    return table
