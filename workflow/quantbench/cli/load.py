"""`python -m quantbench load`: a grid of concurrency x max_tokens against a running server, one CSV row each."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from quantbench.cli import load_output as output
from quantbench.cli.argument_types import (
    count,
    json_object,
    non_negative_seconds,
    positive_integer,
    positive_integers,
    positive_seconds,
)
from quantbench.client.load_spec import Endpoint, LoadSpec, endpoint_of, endpoint_url, models_url
from quantbench.client.prompt_file import read_prompts
from quantbench.client.records import BlockResult
from quantbench.engines import openai_api
from quantbench.errors import QuantbenchError
from quantbench.records.block import BlockContext, Calibration
from quantbench.records.cell import Cell
from quantbench.records.request import RequestRecord

Block = tuple[Sequence[RequestRecord], BlockContext]

PROMPTS = Path(__file__).parents[3] / "config" / "prompts" / "chat.jsonl"
SECONDS = 20.0
"""As `block.min_seconds` of the configuration: what is asked for without a length should be worth its figures."""

_SHOWN = (
    *("concurrency", "max_tokens", "n", "failures", "throughput_tok_s", "p50_ttft_ms", "p95_ttft_ms"),
    *("p50_e2e_ms", "p95_e2e_ms", "p50_tpot_ms", "client_cpu_share", "valid"),
)


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
    add("--requests", type=count, help="at least so many per block, then to the end of a wave")
    add(
        "--seconds",
        type=non_negative_seconds,
        help=f"at least so long per block (default: {SECONDS:g}, none with --requests)",
    )
    add("--blocks", type=positive_integer, default=1, help="blocks per point (default: 1)")
    add("--warmup", type=count, help="warm-up requests (default: one wave)")
    add("--timeout", type=positive_seconds, default=600.0, help="seconds per request (default: 600)")
    add("--seed", default="quantbench", help="names the sequence of prompts")
    add("--no-ignore-eos", dest="ignore_eos", action="store_false", help="let replies end by themselves")
    add("--openai-only", action="store_true", help="send only fields of OpenAI's own API")
    add("--extra-body", type=json_object, default={}, metavar="JSON", help="further fields of the body")
    add("--api-key", type=str.strip, default=env("OPENAI_API_KEY"), help="default: OPENAI_API_KEY in the environment")
    add("--transport", choices=("auto", "wire", "aiohttp"), default="auto")
    add("--workload", default="chat", help="name in the CSV")
    add("--style", choices=("interactive", "batch"), default="interactive", help="batch adds latency columns")
    add("--gpu-name", default=env("GPU_NAME", "unknown"), help="name in the CSV (environment: GPU_NAME)")
    add("--out", type=Path, default=env("OUT_CSV") or None, help="CSV to append to (environment: OUT_CSV)")
    add("--requests-out", type=Path, help="one row per request: .jsonl or .parquet")
    add("--calibrate", action="store_true", help="measure the client first, at each concurrency")
    add("--quiet", action="store_true", help="no progress, no table")


def run(args: argparse.Namespace) -> int:
    """Measure the grid. 0 if every request succeeded, 1 if any failed (its row is written all the same).

    Each finished block is kept, whatever happens to the next: its row and its requests are written at once.
    """
    specs = _specs(args)
    _check_outputs(args)
    rows: list[dict[str, Any]] = []
    requests: list[dict[str, Any]] = []
    try:
        for number, spec in enumerate(specs, 1):
            place = f"{number}/{len(specs)} c={spec.concurrency} t={spec.max_tokens}"
            calibration = _calibration(args, spec)
            blocks: list[Block] = []
            try:
                for block in _blocks(args, spec, calibration, place):
                    blocks.append(block)
            finally:
                if blocks:
                    rows.append(_row(args, blocks, calibration))
                    requests += _request_rows(args, spec, blocks)
                    _write(args, rows[-1], requests)
                    output.report_failures(place, blocks)
    finally:
        if rows and not args.quiet:
            shown = [c for c in _SHOWN if any(row[c] != "" for row in rows)]
            output.show_table(f"{args.url}  {specs[0].model}", rows, shown)
            output.show_codes(rows)
    return 0 if all(row["failures"] == 0 for row in rows) else 1


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise QuantbenchError for a file that cannot take the results, before there are any."""
    for path in (args.out, args.requests_out):
        if path:
            output.check_writable(path)
    if args.out and output.has_rows(args.out):
        from quantbench.judge.summary import columns

        output.check_columns(args.out, [column.name for column in columns(args.style)])


def _write(args: argparse.Namespace, row: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> None:
    if args.out:
        output.append_row(args.out, row)
    if args.requests_out:
        output.write_requests(args.requests_out, requests)


def _specs(args: argparse.Namespace) -> list[LoadSpec]:
    """The grid as specs; raises QuantbenchError for what is missing."""
    if not args.url:
        raise QuantbenchError("no URL", remedy="give --url http://host:port or set URL in the environment")
    endpoint: Endpoint = args.endpoint or endpoint_of(args.url)
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
    try:
        names = openai_api.models(models_url(url, endpoint), api_key)
    except openai_api.ClientError as error:
        remedy = f"{openai_api.remedy(error, '--url')}; or name the model with --model"
        raise QuantbenchError(
            f"the server at {url} does not answer or lists no model: {error}", remedy=remedy
        ) from error
    if len(names) != 1:
        listed = openai_api.names_of(names)
        raise QuantbenchError(f"the server at {url} lists {listed}", remedy="name the model with --model")
    return names[0]


def _calibration(args: argparse.Namespace, spec: LoadSpec) -> Calibration | None:
    if not args.calibrate:
        return None
    from quantbench.client.calibration import calibrate

    return calibrate(spec.concurrency)


def _blocks(args: argparse.Namespace, spec: LoadSpec, calibration: Calibration | None, place: str) -> Iterator[Block]:
    """The blocks of one point, each as soon as it is measured and judged."""
    from quantbench.client.load import run_block
    from quantbench.client.load_progress import block_progress

    for number in range(args.blocks):
        title = f"{place} block {number + 1}/{args.blocks}"
        seed = f"{args.seed}|{args.workload}|c{spec.concurrency}_t{spec.max_tokens}|b{number}"
        with block_progress(title, spec.min_requests, spec.min_seconds, quiet=args.quiet) as progress:
            result = run_block(replace(spec, seed=seed), progress=progress)
        yield result.records, _judged(args, spec, number + 1, result, calibration)


def _judged(
    args: argparse.Namespace, spec: LoadSpec, number: int, result: BlockResult, calibration: Calibration | None
) -> BlockContext:
    """The context with guards, bottleneck, valid and reasons, by the guards whose facts a lone client has."""
    # Here, as numpy and scipy take longer to import than a client should take to start.
    from quantbench.client.metrics import block_context
    from quantbench.judge import guards
    from quantbench.observe import bottleneck

    block = block_context(
        result,
        Cell.of(args.workload, spec.concurrency, spec.max_tokens),
        gpu=args.gpu_name,
        model=spec.model,
        style=args.style,
        block=number,
        min_seconds=spec.min_seconds,
    )
    known = ("failed_requests", "concurrency_not_held", "stalled", "client_stalled", "suspended", *guards.CLIENT)
    results = [r for r in guards.evaluate_block(block, None, calibration) if r.id in known]
    failed = guards.failed(results)
    limits = [r.detail for r in results if r.id in failed and r.id in guards.CLIENT]
    limit = bottleneck.judge(block, limits)
    return structs.replace(block, bottleneck=limit, guards=tuple(results), valid=not failed, reasons=tuple(failed))


def _row(args: argparse.Namespace, blocks: Sequence[Block], calibration: Calibration | None) -> dict[str, Any]:
    """The CSV row of one point; one with fewer blocks than were asked for is not valid."""
    from quantbench.judge.summary import tuple_row

    row = tuple_row(args.gpu_name, blocks, calibration)
    if len(blocks) < args.blocks:
        row |= {"valid": False, "reasons": ";".join(filter(None, ["unfinished", row["reasons"]]))}
    return row


def _request_rows(args: argparse.Namespace, spec: LoadSpec, blocks: Sequence[Block]) -> list[dict[str, Any]]:
    names = {"gpu_name": args.gpu_name, "model": spec.model, "workload": args.workload, "style": args.style}
    point = {"concurrency": spec.concurrency, "max_tokens": spec.max_tokens}
    return [
        {**names, **point, "block": number, **record.row()}
        for number, (records, _) in enumerate(blocks)
        for record in records
    ]
