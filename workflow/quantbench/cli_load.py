"""Edge: `python -m quantbench load`: a grid of concurrency x max_tokens against a running server, one CSV row each."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from quantbench.client.load_checks import models_at
from quantbench.client.load_spec import Endpoint, LoadSpec, endpoint_url
from quantbench.client.prompt_file import read_prompts
from quantbench.errors import QuantbenchError

PROMPTS = Path(__file__).parents[2] / "config" / "prompts" / "chat.jsonl"
SECONDS = 20.0
"""As `block.min_seconds` of the configuration: what is asked for without a length should be worth its figures."""

_SHOWN = (
    *("concurrency", "max_tokens", "n", "failures", "throughput_tok_s", "p50_ttft_ms", "p95_ttft_ms"),
    *("p50_e2e_ms", "p95_e2e_ms", "p50_tpot_ms", "client_cpu_share", "valid", "reasons", "failure_reasons"),
)


def positive_integers(text: str) -> list[int]:
    """ "1,8,16" -> [1, 8, 16]. Raises argparse's error for anything else."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive integers like 1,8,16")
    return numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `load`; URL, MODEL, OUT_CSV and GPU_NAME in the environment are defaults."""
    env = os.environ.get
    add = parser.add_argument
    add("--url", default=env("URL"), help="http://host:port, .../v1, or the full endpoint (environment: URL)")
    add("--model", default=env("MODEL"), help="default: the one model that the server lists (MODEL)")
    add("--endpoint", choices=("completions", "chat"), help="default: by the URL, else completions")
    add("--concurrency", type=positive_integers, default=[1], metavar="N[,N]")
    add("--max-tokens", type=positive_integers, default=[128], metavar="N[,N]")
    prompts = 'JSON lines: {"id", "prompt"} or {"id", "messages"} (default: the chat prompts that come with quantbench)'
    add("--prompts", type=Path, default=PROMPTS, help=prompts)
    add("--template", help="text around {prompt} or {document}")
    add("--requests", type=int, help="at least so many per block, then to the end of a wave")
    add("--seconds", type=float, help=f"at least so long per block (default: {SECONDS:g}, none with --requests)")
    add("--blocks", type=int, default=1, help="blocks per point (default: 1)")
    add("--warmup", type=int, help="warm-up requests (default: one wave)")
    add("--timeout", type=float, default=600.0, help="seconds per request (default: 600)")
    add("--seed", default="quantbench", help="names the sequence of prompts")
    add("--no-ignore-eos", dest="ignore_eos", action="store_false", help="let replies end by themselves")
    add("--openai-only", action="store_true", help="send only fields of OpenAI's own API")
    add("--extra-body", type=orjson.loads, default={}, metavar="JSON", help="further fields of the body")
    add("--api-key", default=env("OPENAI_API_KEY"), help="default: OPENAI_API_KEY in the environment")
    add("--transport", choices=("auto", "wire", "aiohttp"), default="auto")
    add("--workload", default="chat", help="name in the CSV")
    add("--style", choices=("interactive", "batch"), default="interactive", help="batch adds latency columns")
    add("--gpu-name", default=env("GPU_NAME", "unknown"), help="name in the CSV (environment: GPU_NAME)")
    add("--out", type=Path, default=env("OUT_CSV"), help="CSV to append to (environment: OUT_CSV)")
    add("--requests-out", type=Path, help="one row per request: .jsonl or .parquet")
    add("--calibrate", action="store_true", help="measure the client first, at each concurrency")
    add("--quiet", action="store_true", help="no progress, no table")


def run(args: argparse.Namespace) -> int:
    """Measure the grid. 0 if every request succeeded, 1 if any failed (its row is written all the same)."""
    specs = _specs(args)
    rows: list[dict[str, Any]] = []
    requests: list[dict[str, Any]] = []
    for number, spec in enumerate(specs, 1):
        row, raw = _measure(args, spec, f"{number}/{len(specs)}")
        rows.append(row)
        requests += raw
        if args.out:
            append_row(Path(args.out), row)
    if args.requests_out:
        _write_requests(args.requests_out, requests)
    if not args.quiet:
        show_table(f"{args.url}  {specs[0].model}", rows, [c for c in _SHOWN if any(row[c] != "" for row in rows)])
    return 0 if all(row["failures"] == 0 for row in rows) else 1


def _specs(args: argparse.Namespace) -> list[LoadSpec]:
    """The grid as specs; raises QuantbenchError for what is missing."""
    if not args.url:
        raise QuantbenchError("no URL", remedy="give --url http://host:port or set URL in the environment")
    endpoint: Endpoint = args.endpoint or (
        "chat" if args.url.rstrip("/").endswith("/chat/completions") else "completions"
    )
    endpoint_url(args.url, endpoint)
    prompts = read_prompts(args.prompts)
    seconds = args.seconds if args.seconds is not None else SECONDS if args.requests is None else 0.0
    model = args.model or _only_model(args.url, endpoint, args.api_key)
    return [
        LoadSpec(
            url=args.url,
            model=model,
            prompts=prompts,
            concurrency=concurrency,
            max_tokens=max_tokens,
            endpoint=endpoint,
            template=args.template,
            min_seconds=seconds,
            min_requests=args.requests or 0,
            warmup_requests=args.warmup,
            timeout_s=args.timeout,
            ignore_eos=args.ignore_eos,
            openai_only=args.openai_only,
            extra_body=args.extra_body,
            api_key=args.api_key,
            transport=args.transport,
        )
        for max_tokens in args.max_tokens
        for concurrency in args.concurrency
    ]


def _only_model(url: str, endpoint: str, api_key: str | None) -> str:
    names = models_at(url, endpoint, api_key)
    if len(names) != 1:
        listed = f"lists {', '.join(names)}" if names else "does not answer or lists no model"
        raise QuantbenchError(f"the server at {url} {listed}", remedy="start it, or name the model with --model")
    return names[0]


def _measure(args: argparse.Namespace, spec: LoadSpec, place: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All blocks of one point: its CSV row and its request rows."""
    from dataclasses import replace

    from quantbench.client.load import run_block
    from quantbench.client.load_progress import block_progress

    calibration = None
    if args.calibrate:
        from quantbench.client.calibration import calibrate

        calibration = calibrate(spec.concurrency)
    blocks = []
    for number in range(args.blocks):
        title = f"{place} c={spec.concurrency} t={spec.max_tokens} block {number + 1}/{args.blocks}"
        seed = f"{args.seed}|{args.workload}|c{spec.concurrency}_t{spec.max_tokens}|b{number}"
        with block_progress(title, spec.min_requests, spec.min_seconds, quiet=args.quiet) as progress:
            result = run_block(replace(spec, seed=seed), progress=progress)
        failed = any(not r.ok for r in result.records)
        judged = {"valid": not failed, "reasons": ["failed_requests"] if failed else []}
        blocks.append((result.records, {**result.context, **judged}))
    # Here, as polars and scipy take longer to import than a client should take to start.
    from quantbench.judge.summary import tuple_row

    names = {"gpu_name": args.gpu_name, "model": spec.model, "workload": args.workload, "style": args.style}
    point = {"concurrency": spec.concurrency, "max_tokens": spec.max_tokens}
    raw = [
        {**names, **point, "block": number, **record.row()}
        for number, (records, _) in enumerate(blocks)
        for record in records
    ]
    return tuple_row({**names, **point}, blocks, calibration), raw


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append to a CSV, with a header if it is new. Raises QuantbenchError if its columns are others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists() or path.stat().st_size == 0
    if not new:
        with path.open(newline="") as file:
            header = next(csv.reader(file), [])
        if header != list(row):
            raise QuantbenchError(f"{path} has other columns than this row", remedy="name a new file with --out")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({k: _cell(v) for k, v in row.items()})


def _cell(value: Any) -> Any:
    """CSV text: blank for None, true/false, floats to 0.1 us and the like."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return round(value, 6) if isinstance(value, float) else value


def _write_requests(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row per request, as JSON lines or parquet by the file's ending."""
    from quantbench.files import atomic, write_text

    if path.suffix == ".parquet":
        import polars

        with atomic(path) as part:
            polars.DataFrame(list(rows), infer_schema_length=None).write_parquet(part)
    else:
        write_text(path, "".join(orjson.dumps(row).decode() + "\n" for row in rows))


def show_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows side by side: one line per column name, as there are more columns than rows."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False)
    table.add_column(no_wrap=True)
    for _ in rows:
        table.add_column(overflow="fold", justify="right")
    for column in columns:
        cells = (_cell(row[column]) for row in rows)
        table.add_row(column, *(f"{c:.4g}" if isinstance(c, float) else "" if c is None else str(c) for c in cells))
    Console().print(table)
