"""Flags and variables of vLLM that are quantbench's own: refused as vLLM's parser would read them, and only those."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest
from quantbench.config import own_settings
from quantbench.config.own_settings import FLAGS, VARIABLES, taken_as
from quantbench.engines.vllm import command
from servers import changed, fake_spec
from source import ROOT, VLLM_PYTHON, needs_vllm

LISTING = ROOT / "tests/data/vllm-serve-flags-0.32.0.txt"
"""The option strings of `vllm serve`, an argument a line."""
OPTIONS = {option: line.split()[0] for line in LISTING.read_text().splitlines() for option in line.split()}
OURS = {option for option in OPTIONS if taken_as(option)}


def read(word: str) -> set[str]:
    """The options for which argparse takes a plain word: itself, else all that it is the beginning of."""
    if word in OPTIONS:
        return {word}
    return {option for option in OPTIONS if option.startswith(word) and option.startswith("--") == (word[:2] == "--")}


@cache
def beginnings(option: str) -> tuple[str, ...]:
    """The option and all that vLLM takes for it when it is cut short."""
    return tuple(option[:n] for n in range(2, len(option) + 1) if read(option[:n]) == {option})


def spellings(word: str) -> Iterator[str]:
    yield from (word, f"{word}=x", f"{word}.a.b", f"{word}.a=x")
    if word.startswith("--"):
        yield from ("--" + word[2:].replace("-", "_"), "--" + word[2:].replace("-", "_", 1) + "=x")


@pytest.mark.fault(
    "server.args has what quantbench sets (host, port, key, TLS, log …), in any spelling or cut short",
    "`snakemake -n` and every run refuse it, with the key to set instead; nothing is started",
)
def test_what_vllm_would_take_as_ours_is_refused_in_every_spelling() -> None:
    assert {"--host", "--port", "--served-model-name", "--api-key", "--uds", "--root-path", "--config", "-q"} <= OURS
    missed = [
        word for option in OURS for short in beginnings(option) for word in spellings(short) if not taken_as(word)
    ]
    assert missed == []


def test_everything_else_that_vllm_takes_passes_cut_short_or_not() -> None:
    honest = {word for option in OPTIONS.keys() - OURS for word in beginnings(option)}
    assert len(honest) > 1000
    assert {word: taken_as(word) for word in honest if taken_as(word)} == {}
    for word in (
        "-1",
        "-0.5",
        "-O3",
        "-cc.mode",
        "-sc",
        "-tp",
        "4",
        "x=y",
        "--",
        "-",
        '{"host": "x"}',
        "--no-such-flag",
    ):
        assert taken_as(word) == []


def test_a_form_that_may_be_ours_or_anothers_is_refused_as_vllm_does_not_take_it_either() -> None:
    assert taken_as("--max-num") == ["--max-num-seqs"]
    assert len(read("--max-num")) > 1
    assert taken_as("--no-disable-uvicorn") == ["--no-disable-uvicorn-access-log"]
    assert taken_as("-qfp8") == ["--quantization"]
    assert taken_as("--ssl-of-a-later-version") == ["--ssl-of-a-later-version"]


@pytest.mark.parametrize("option", sorted(OURS))
def test_each_has_a_remedy(option: str) -> None:
    assert own_settings.remedy_of(taken_as(option)[0])


ASK = """
import argparse, json, sys
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:  # before 0.32
    from vllm.entrypoints.openai.cli_args import make_arg_parser
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser
except ImportError:
    from vllm.utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
argparse.ArgumentParser.parse_args = lambda self, args, namespace=None: args
parser.error = lambda message: (_ for _ in ()).throw(ValueError(message))

def read(word):
    try:
        seen = parser.parse_args(["serve", "model", word, "7"])[2:]
    except (OSError, ValueError):  # --config reads its file at once
        return "refused"
    for processed in seen:
        if processed.startswith("-"):
            try:
                found = parser._parse_optional(processed)
            except ValueError:
                return "ambiguous"
            action = (found[0] if isinstance(found, list) else found or [None])[0]
            return action.option_strings[0] if action else None

listing = [action.option_strings for action in parser._actions if action.option_strings]
print("\\n" + json.dumps([listing, {word: read(word) for word in json.load(sys.stdin)}]))
"""


@pytest.mark.vllm
@needs_vllm[1]
def test_vllms_own_parser_reads_them_so() -> None:
    words = [w for option in OURS for short in (*beginnings(option)[::3], option) for w in spellings(short)]
    words += [short for option in OPTIONS for short in {beginnings(option)[0], option}]
    done = subprocess.run([VLLM_PYTHON, "-c", ASK], input=json.dumps(words), capture_output=True, text=True, check=True)
    listing, told = json.loads(done.stdout.splitlines()[-1])
    assert sorted(" ".join(options) for options in listing) == LISTING.read_text().splitlines()
    ours = {OPTIONS[option] for option in OURS}
    assert {word: flag for word, flag in told.items() if flag in ours and not taken_as(word)} == {}
    honest = {word: flag for word, flag in told.items() if flag in set(OPTIONS.values()) - ours}
    assert {word: flag for word, flag in honest.items() if taken_as(word)} == {}
    assert len(honest) > 200


def test_variables_that_are_ours_and_those_that_are_not() -> None:
    ours = [*VARIABLES, "QUANTBENCH_STATE_DIR", "VLLM_NIXL_SIDE_CHANNEL_HOST", "VLLM_MOONCAKE_BOOTSTRAP_PORT"]
    assert [name for name in ours if not own_settings.remedy_of_variable(name)] == []
    honest = (
        "OMP_NUM_THREADS", "PYTHONPATH", "LD_PRELOAD", "HF_HOME", "HF_HUB_OFFLINE", "TORCHDYNAMO_DISABLE", "PATH",
        "VLLM_ATTENTION_BACKEND", "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_CPU_OMP_THREADS_BIND", "NCCL_P2P_DISABLE",
        "VLLM_CACHE_ROOT", "VLLM_USE_DEEP_GEMM", "VLLM_NO_USAGE_STATS", "FAKE_VLLM",
    )  # fmt: skip
    assert [name for name in honest if own_settings.remedy_of_variable(name)] == []


def test_no_server_inherits_one_that_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "17")
    assert set(command.inherited(fake_spec(None), "resident")) & set(VARIABLES) == set()
    assert {"VLLM_HOST_IP", "VLLM_MODEL_REDIRECT_PATH", "PROMETHEUS_MULTIPROC_DIR"} <= set(command.UNSET)
    assert "TMPDIR" not in command.UNSET


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["--revision", "v2"], "v2"),
        (["--rev=v2"], "v2"),
        (["--revis", "v1", "--revision", "v2"], "v2"),
        (["--revision"], "main"),
        (["--code-revision", "v2", "--seed", "1"], "main"),
    ],
)
def test_the_revision_is_the_one_that_vllm_loads(args: list[str], found: str) -> None:
    assert command.hub(changed(fake_spec(None), args=args)).revision == found


def test_the_table_names_no_flag_twice_and_only_those_of_some_vllm() -> None:
    assert {f"--{name}" for name in FLAGS} <= set(OPTIONS)
