"""The line that repeats or extends a run says all that the run was given, and refine passes on what it is given."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import pytest
from quantbench.cli import refine as cli_refine
from quantbench.config import settings
from quantbench.config.command_line import repeat, text, with_value
from quantbench.errors import QuantbenchError
from quantbench.report import decision, method
from quantbench.report.say import Speech
from report_fixture import Scenario, facts
from source import ROOT

HERE = Path("/home/me/quantbench")


def refine(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli_refine.add_arguments(parser)
    return parser.parse_args(words)


def test_files_in_order_then_values_as_typed_with_the_profile_named() -> None:
    line = repeat("h100-80gb", [HERE / "a.yaml", Path("/etc/b.yaml")], ["gpu=auto", "select=[bf16,awq]"], here=HERE)
    assert text(line) == (
        "snakemake --cores 1 --configfile a.yaml /etc/b.yaml --config gpu=h100-80gb 'select=[bf16,awq]'"
    )
    assert text(repeat("cpu", [], [])) == "snakemake --cores 1 --config gpu=cpu"


def test_a_value_replaces_what_the_line_said_of_the_key() -> None:
    line = repeat("cpu", [Path("my.yaml")], ['extra_blocks={"chat/c1_t128": 2}', "blocks=8"])
    words = shlex.split(text(with_value(line, "extra_blocks", {"chat/c8_t128": 4, "batch/c16_t256": 2})))
    assert words[:-1] == [*["snakemake", "--cores", "1", "--configfile", "my.yaml", "--config", "gpu=cpu", "blocks=8"]]
    key, value = words[-1].split("=", 1)
    assert (key, json.loads(value)) == ("extra_blocks", {"batch/c16_t256": 2, "chat/c8_t128": 4})


def test_pages_print_the_whole_line() -> None:
    found = facts(Scenario(variants=("awq", "fp8")))
    say = Speech.of(found)
    line = "snakemake --cores 1 --configfile 'my gpu.yaml' --config gpu=test-gpu blocks=6"
    assert line in str(method.provenance(found, say))
    assert line in str(decision.memo(found, say)[-1])
    assert found.verdict.precision.extra_blocks
    [sentence] = [part for part in map(str, method.section(found, say).parts) if "would reach it" in part]
    assert f"{line} 'extra_blocks={{" in sentence.encode().decode("unicode_escape")


def test_refine_reads_what_it_is_given_as_snakemake_does(tmp_path: Path) -> None:
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("blocks: 3\ncost: {hourly_price: 1}\n")
    second.write_text("blocks: 4\n")
    files = ["--configfile", str(first), str(second)]
    args = refine(*files, "--config", "gpu=cpu", "select=[bf16,int8]", 'cost={"currency": "EUR"}', "precision=0.5")
    read = settings.load(ROOT, cli_refine.values(args), args.configfile).config
    assert (read["blocks"], read["gpu"], read["select"], read["precision"]) == (4, "cpu", ["bf16", "int8"], 0.5)
    assert (read["cost"]["hourly_price"], read["cost"]["currency"]) == (1, "EUR")
    with pytest.raises(QuantbenchError, match="key=value"):
        cli_refine.values(refine("--config", "blocks"))


def test_refine_passes_on_what_it_is_given() -> None:
    args = refine("--cores", "2", "--configfile", "my.yaml", "--config", "blocks=8", "precision=0.5")
    line = cli_refine.round_line(args, "cpu", {})
    assert text(line) == "snakemake --cores 2 --configfile my.yaml --config gpu=cpu blocks=8 precision=0.5 budget=0"
    args.precision = 0.02
    line = cli_refine.round_line(args, "cpu", {"chat/c8_t128": 2})
    assert line[-4:] == ["blocks=8", "precision=0.02", "budget=0", 'extra_blocks={"chat/c8_t128": 2}']
    args.configfile = []
    assert cli_refine.values(args)["precision"] == 0.02
