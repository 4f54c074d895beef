"""The command line: the specification's environment variables, one CSV row per point, exit codes."""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import polars
import pytest
from quantbench.cli import load as cli_load
from quantbench.cli.load_output import show_codes, show_table
from quantbench.cli.main import COMMANDS, main
from quantbench.client import calibration, load
from quantbench.client.load_spec import LoadSpec
from quantbench.client.prompt_file import read_prompts
from quantbench.client.records import BlockResult
from quantbench.client.truth_server import TruthServer
from quantbench.client.truth_stream import MODEL, Schedule
from quantbench.errors import QuantbenchError
from quantbench.records.block import BlockContext, Calibration, ClientFacts
from request_records import block

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "workflow"


@pytest.fixture(scope="module")
def server() -> Iterator[TruthServer]:
    with TruthServer(Schedule(ttft_ms=3, itl_ms=0.5)) as running:
        yield running


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "prompt": "One?"}\n\n{"id": "b", "prompt": "Two?"}\n')
    assert [prompt["id"] for prompt in read_prompts(path)] == ["a", "b"]
    return str(path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_grid_appends_rows_to_one_csv(
    server: TruthServer, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, requests = tmp_path / "grid.csv", tmp_path / "requests.parquet"
    grid = ["--concurrency", "1,2", "--max-tokens", "4,6", "--requests", "2", "--blocks", "2"]
    common = ["load", "--url", server.url, "--prompts", prompts, *grid]
    assert main([*common, "--out", str(out), "--requests-out", str(requests)]) == 0
    rows = rows_of(out)
    assert [(r["max_tokens"], r["concurrency"]) for r in rows] == [("4", "1"), ("4", "2"), ("6", "1"), ("6", "2")]
    assert {(r["model"], r["failures"]) for r in rows} == {(MODEL, "0")}
    # On a busy machine the client may be late in blocks this short, and says so.
    assert {int(r["blocks"]) + int(r["blocks_invalid"]) for r in rows} == {2}
    assert all(float(r["throughput_tok_s"]) > 0 and r["p95_ttft_ms"] == "" for r in rows)
    assert "throughput_tok_s" in capsys.readouterr().out
    frame = polars.read_parquet(requests)
    assert frame.height == 4 * 2 * 2
    assert frame["ok"].all()


def test_the_environment_names_the_defaults_and_a_calibration_goes_into_the_row(
    server: TruthServer, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "x.csv"
    environment = {"URL": f"{server.url}/v1/chat/completions", "OUT_CSV": str(out), "GPU_NAME": "RTX", "MODEL": MODEL}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(calibration, "calibrate", partial(calibration.calibrate, seconds=0.1, max_tokens=4))
    requests = tmp_path / "r.jsonl"
    options = ["--style", "batch", "--quiet", "--requests", "1", "--requests-out", str(requests), "--calibrate"]
    assert main(["load", "--prompts", prompts, "--max-tokens", "5", *options]) == 0
    [row] = rows_of(out)
    assert (row["gpu_name"], row["model"], row["p50_latency_ms"]) == ("RTX", MODEL, row["p50_e2e_ms"])
    assert float(row["client_ttft_error_ms"]) > 0
    assert [json.loads(line)["ok"] for line in requests.read_text().splitlines()] == [True]


def test_failures_are_written_said_and_make_the_exit_code_1(
    server: TruthServer, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.csv"
    faulty = json.dumps({"truth": {"fault": "error", "after": 3}})
    arguments = ["load", "--url", server.url, "--prompts", prompts, "--out", str(out), "--extra-body", faulty]
    assert main([*arguments, "--quiet", "--requests", "3", "--max-tokens", "9"]) == 1
    [row] = rows_of(out)
    assert (row["n"], row["failures"], row["valid"]) == ("3", "3", "false")
    assert (row["failure_reasons"], row["p50_ttft_ms"]) == ("in_band_error:3", "")
    assert "failed_requests" in row["reasons"]
    [line] = [x for x in capsys.readouterr().err.splitlines() if "in_band_error" in x]
    assert line.startswith("1/1 c=1 t=9: 3 x in_band_error: ")
    assert "EngineCore" in line


GONE = ["--url", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--prompts", "P"], "no URL"),
        ([*GONE, "--prompts", "P"], "does not answer"),
        ([*GONE, "--model", "m", "--prompts", "/nope.jsonl"], "/nope.jsonl"),
        ([*GONE, "--model", "m", "--prompts", "{oops"], "line 2"),
        ([*GONE, "--model", "m", "--prompts", "[1]"], "line 2"),
        (["--url", "nonsense", "--prompts", "P"], "'nonsense'"),
        (["--url", "U", "--prompts", "P", "--out", "x.csv"], "x.csv has other columns"),
        *((["--url", "U", "--out", place], f"cannot write {place}") for place in ("/proc/x/y.csv", ".")),
        *((["--url", "U", "--requests-out", place], f"cannot write {place}") for place in ("/proc/x/y.csv", ".")),
    ],
)
def test_errors_of_the_user_are_named_before_anything_is_measured(
    server: TruthServer, arguments: list[str], word: str, prompts: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server.log()
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "MODEL"):
        monkeypatch.delenv(name, raising=False)
    Path("x.csv").write_text("a,b\n1,2\n")
    for line in ("{oops", "[1]"):
        Path(line).write_text(f'{{"prompt": "x"}}\n{line}\n')
    meant = {"P": prompts, "U": server.url}
    assert main(["load", "--requests", "1", *(meant.get(a, a) for a in arguments)]) == 2
    assert word in capsys.readouterr().err
    assert Path("x.csv").read_text() == "a,b\n1,2\n"
    assert server.log() == []


@pytest.mark.parametrize("error", [QuantbenchError("refused"), KeyboardInterrupt()])
def test_finished_blocks_outlive_the_next_one(
    server: TruthServer, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    blocks = iter([load.run_block, load.run_block, None])

    def run_block(*args: Any, **fields: Any) -> BlockResult:
        measure = next(blocks)
        if measure is None:
            raise error
        return measure(*args, **fields)

    monkeypatch.setattr(load, "run_block", run_block)
    out, requests = tmp_path / "x.csv", tmp_path / "r.jsonl"
    files = ["--out", str(out), "--requests-out", str(requests), "--quiet"]
    grid = ["--concurrency", "1,2", "--max-tokens", "4", "--requests", "2", "--blocks", "3"]
    assert main(["load", "--url", server.url, "--prompts", prompts, *grid, *files]) in (2, 130)
    [row] = rows_of(out)
    assert (row["concurrency"], row["n"], row["valid"], row["reasons"].split(";")[0]) == (
        "1",
        "4",
        "false",
        "unfinished",
    )
    assert len(requests.read_text().splitlines()) == 4


def judged(limit_tok_s: float | None = None, **client: Any) -> BlockContext:
    facts = ClientFacts(
        **{"cpu_share": 0.2, "loop_lag_p50_ms": 0.1, "loop_lag_p99_ms": 1, "concurrency_held": 1, **client}
    )
    spec = LoadSpec("http://h", "m", [{"prompt": "x"}], 2, 10)
    args = argparse.Namespace(gpu_name="cpu", workload="chat", style="interactive")
    result = BlockResult(block(80, 2), datetime.now(), 4.0, facts)
    known = Calibration(concurrency=2, ttft_error_p50_ms=0.1, limit_tok_s=limit_tok_s) if limit_tok_s else None
    return cli_load._judged(args, spec, 1, result, known)


@pytest.mark.parametrize(
    ("limit", "client", "reason", "part"),
    [
        (None, {}, None, "engine"),
        (1e6, {}, None, "engine"),
        (None, {"cpu_share": 0.998}, "client_cpu", "client"),
        (None, {"loop_lag_p50_ms": 9.0}, "client_loop_lag", "client"),
        (None, {"concurrency_held": 0.5}, "concurrency_not_held", "engine"),
        (100.0, {}, "client_limit", "client"),
    ],
)
def test_a_block_is_judged_by_the_guards_of_the_client(
    limit: float | None, client: dict[str, Any], reason: str | None, part: str
) -> None:
    block = judged(limit, **client)
    assert (block.valid, block.reasons) == (reason is None, (reason,) if reason else ())
    assert block.bottleneck.part == part


def test_rich_takes_no_name_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("m[/x]", [{"model": "[/y]"}], ["model"])
    said = capsys.readouterr().out
    assert "m[/x]" in said
    assert "[/y]" in said


def test_no_reason_code_is_broken_however_many_points_there_are(capsys):
    codes = ["CI_NEEDS_3_BLOCKS", "P95_NEEDS_N72", "BOUND_NEEDS_STEP"]
    row = {"max_tokens": 8, "reasons": ";".join(codes), "failure_reasons": "no_usage:10"}
    show_codes([row | {"concurrency": n} for n in range(1, 9)])
    printed = capsys.readouterr().out
    assert all(printed.count(code) == 8 for code in codes)
    assert "failure_reasons of c8_t8: no_usage:10" in printed
    show_codes([row | {"concurrency": 1, "reasons": "", "failure_reasons": ""}])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--blocks", ["0", "-1"]), ("--requests", ["-5", "x"]), ("--seconds", ["-1", "nan"]), ("--warmup", ["-1"]),
        ("--timeout", ["0", "nan", "inf"]), ("--extra-body", ["5", "[]", "{bad"]),
        ("--concurrency", ["0", "1,x", "", "-3"]),
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(
    option: str, values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as exited:
            main(["load", "--url", "http://h", "--prompts", "p", option, value])
        assert exited.value.code == 2
        assert f"argument {option}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "seconds", "requests"),
    [([], 20, 0), (["--requests", "5"], 0, 5), (["--seconds", "3"], 3, 0), (["--seconds", "0"], 0, 0)],
)
def test_without_a_length_a_block_is_as_long_as_one_of_a_run(given: list[str], seconds: float, requests: int) -> None:
    [spec] = cli_load._specs(parsed(["load", "--url", "http://127.0.0.1:9", "--model", "m", *given]))
    assert (spec.min_seconds, spec.min_requests) == (seconds, requests)
    assert len(spec.prompts) > 20, "the prompts that come with quantbench"


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module = import_module(COMMANDS[words[0]][0])
    module.add_arguments(parser)
    return parser.parse_args(words[1:])


def test_the_commands_of_the_documentation_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join((ROOT / name).read_text() for name in ("README.md", "config/README.md", "docs/benchmarks.md"))
    lines = re.findall(r"((?:[A-Z_]+=\S+ )*)python -m quantbench ([^`\n]+)", text)
    assert sum(command.startswith("load ") for _, command in lines) >= 2
    for before, command in lines:
        words = shlex.split(command, comments=True)
        with monkeypatch.context() as environment:
            for entry in before.split():
                environment.setenv(*entry.split("=", 1))
            args = parsed(words)
        if words[0] == "load":
            assert args.url, command
            assert args.out, command


def test_help_is_there_for_every_command_and_starts_without_heavy_libraries() -> None:
    code = (
        "import sys; from quantbench.cli.main import main\n"
        "try: main(['load', '--help'])\nexcept SystemExit: pass\n"
        "import quantbench.client.load\n"
        "heavy = {'polars', 'scipy', 'numpy', 'aiohttp', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'heavy: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=LIBRARY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "OUT_CSV" in done.stdout
    for command in COMMANDS:
        with pytest.raises(SystemExit) as exited:
            main([command, "--help"])
        assert exited.value.code == 0
