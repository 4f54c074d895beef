"""Our load client and its peers against the known-truth server, in one run:

    python benchmarks/client_accuracy.py --vllm .venv-vllm/bin/vllm --guidellm PATH --aiperf PATH --out accuracy.json

Each peer is a program of its own environment; one that is not named is left out. Every cell is two fresh processes, a
small and a large run: their difference in CPU time over their difference in tokens is the cost per token, without
start-up. Errors are the client's percentile minus the server's own over the same requests. Streams have 128 tokens
of 5 ms behind a TTFT of 20 ms + U(0, 100) ms, so that requests do not march in step.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from accuracy_clients import Client, Job, aiperf, guidellm, ours, percentiles, vllm
from quantbench.client.truth_server import TruthServer
from quantbench.client.truth_stream import Schedule
from quantbench.files import write_json

LIBRARY = Path(__file__).resolve().parent.parent / "workflow"
WAVES = {1: 12, 16: 8, 64: 6, 256: 5}
SMALL_WAVES = 2
COLUMNS = (
    *("client", "concurrency", "n", "ttft_p50_error_ms", "ttft_p95_error_ms", "e2e_p50_error_ms"),
    *("server_saw_share", "requests_per_s", "cpu_s_per_1k_tokens", "startup_s", "startup_cpu_s", "load_before"),
)


def make_tokenizer(folder: Path) -> Path:
    """A word-level tokenizer that transformers can load: three peers insist on one."""
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(2000))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(words)}, "unk_token": "<unk>"}
    nothing = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    special = [{"id": i, "content": w, **flags} for i, w in enumerate(words[:3])]
    split = {"type": "WhitespaceSplit"}
    write_json(
        folder / "tokenizer.json",
        {"version": "1.0", **nothing, "added_tokens": special, "pre_tokenizer": split, "model": model},
    )
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})
    write_json(folder / "config.json", {"model_type": "llama", "vocab_size": len(words)})
    return folder


def run(client: Client, concurrency: int, requests: int, schedule: Schedule, tokenizer: Path) -> dict[str, Any]:
    """One process of one client against a fresh server: its report, the truth, and its cost."""
    folder = Path(tempfile.mkdtemp(prefix="client-accuracy-"))
    try:
        with TruthServer(schedule) as server:
            job = Job(server.url, concurrency, requests, folder, tokenizer)
            argv = client.argv(job)
            path = os.pathsep.join((str(LIBRARY), os.environ.get("PYTHONPATH", "")))
            log = (folder / "log.txt").open("wb")
            began = time.monotonic_ns()
            process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}, cwd=folder)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            rows = server.log()
        try:
            reported = client.read(job)
        except (OSError, KeyError, ValueError) as error:
            tail = (folder / "log.txt").read_text(errors="replace")[-2000:]
            raise SystemExit(f"{client.name} gave no result ({error!r}); its log ends:\n{tail}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows.sort(key=lambda row: int(row["received_ns"]))
    return {
        "reported": reported,
        "truth": rows[-requests:],  # what came before was warm-up and readiness checks
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "startup_s": (rows[0]["received_ns"] - began) / 1e9 if rows else None,
        "tokens": sum(row["tokens"] for row in rows),
    }


def server_saw(truth: Sequence[dict[str, Any]], concurrency: int) -> float:
    """Mean requests in flight at the server while there should be `concurrency` of them, as a share of it.

    From the arrival of the last request of the first wave to the first end among the last wave.
    """
    start = sorted(row["received_ns"] for row in truth)[concurrency - 1]
    end = sorted(row["last_ns"] for row in truth)[-concurrency]
    busy = sum(max(0, min(end, row["last_ns"]) - max(start, row["received_ns"])) for row in truth)
    return float(busy / (concurrency * (end - start)))


def cell(client: Client, concurrency: int, tokenizer: Path) -> dict[str, Any]:
    """One row of the table."""
    load_before = os.getloadavg()[0]
    schedule = Schedule(jitter_ms=100)
    small = run(client, concurrency, SMALL_WAVES * concurrency, schedule, tokenizer)
    large = run(client, concurrency, WAVES.get(concurrency, 5) * concurrency, schedule, tokenizer)
    truth, said = large["truth"], large["reported"]
    ttft = percentiles([(row["first_ns"] - row["received_ns"]) / 1e6 for row in truth])
    e2e = percentiles([(row["last_ns"] - row["received_ns"]) / 1e6 for row in truth])
    wall = (max(row["last_ns"] for row in truth) - min(row["received_ns"] for row in truth)) / 1e9
    per_token = (large["cpu_s"] - small["cpu_s"]) / (large["tokens"] - small["tokens"])
    return {
        "client": client.name,
        "concurrency": concurrency,
        "n": said.successes,
        "ttft_p50_error_ms": said.ttft_p50 - ttft[0],
        "ttft_p95_error_ms": said.ttft_p95 - ttft[1],
        "e2e_p50_error_ms": said.e2e_p50 - e2e[0],
        "server_saw_share": server_saw(truth, concurrency),
        "requests_per_s": len(truth) / wall,
        # At concurrency 1, and on a busy machine, two start-ups can differ by more than what the tokens cost.
        "cpu_s_per_1k_tokens": per_token * 1000 if concurrency > 1 and per_token > 0 else None,
        "startup_s": small["startup_s"],
        "startup_cpu_s": small["cpu_s"] - per_token * small["tokens"],
        "load_before": load_before,
    }


def false_successes(client: Client, tokenizer: Path, fault: str) -> str:
    """How many of 8 streams that break at token 10 a client calls a success."""
    broken = Schedule(jitter_ms=100, fault=fault, after=10)
    try:
        return f"{run(client, 4, 8, broken, tokenizer)['reported'].successes} of 8"
    except SystemExit:
        return "0 of 8 (no report)"


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """A table."""

    def text(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(text(row.get(c)) for c in columns) + " |" for row in rows])


def program(path: str) -> str:
    """Where a program is, from any folder; argparse's error if it is nowhere."""
    if not (found := shutil.which(path)):
        raise argparse.ArgumentTypeError(f"no program {path}")
    return str(Path(found).absolute())


def main() -> None:
    """Run all cells, print the tables, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in ("vllm", "guidellm", "aiperf"):
        parser.add_argument(f"--{peer}", type=program, help=f"the {peer} program; left out if not given")
    parser.add_argument("--concurrency", default="1,16,64,256")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    args = parser.parse_args()
    clients = [ours("wire"), ours("aiohttp")]
    clients += [make(getattr(args, make.__name__)) for make in (vllm, guidellm, aiperf) if getattr(args, make.__name__)]
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as folder:
        tokenizer = make_tokenizer(Path(folder))
        rows = []
        for concurrency in (int(c) for c in args.concurrency.split(",")):
            for client in clients:
                rows.append(cell(client, concurrency, tokenizer))
                print(markdown(rows[-1:], COLUMNS).splitlines()[-1], file=sys.stderr, flush=True)
        faults = {"in-band error": "error", "truncated": "truncate", "reset": "reset"}
        probes = [
            {"client": c.name, **{name: false_successes(c, tokenizer, fault) for name, fault in faults.items()}}
            for c in clients
        ]
    print(f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores\n\n{markdown(rows, COLUMNS)}\n")
    print("Streams that break at token 10 of 128, called a success:\n")
    print(markdown(probes, ["client", *faults]))
    if args.out:
        write_json(args.out, {"rows": rows, "false_successes": probes, "cores": os.cpu_count()})


if __name__ == "__main__":
    main()
