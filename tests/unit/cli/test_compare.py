"""`quantbench compare` from folders to exit code: what it prints and writes, and each way to have nothing to say."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
import two_run_facts as made
from msgspec.structs import replace
from quantbench.cli.main import main
from quantbench.records.block import Hardware
from quantbench.records.two_runs import RUN_COLUMNS
from source import ROOT
from two_run_facts import STEADY, facts, shifted, written

SLOW, ONE = shifted(STEADY, -0.2), [[0.0, 0.004, -0.003, 0.002]]
BOTH = {"bf16": STEADY, "int8": shifted(STEADY, 0.3)}
H100 = ROOT / "docs/reference/h100"
LANES, PAIR = (ROOT / f"docs/reference/h200-two-{name}" for name in ("lanes", "against-one"))


@pytest.fixture
def folders(tmp_path):
    """Writes two runs of these models and gives their folders."""

    def write(old, new, **changes):
        of = {"old": facts(old), "new": facts(new, day=1, **changes)}
        return [str(written(tmp_path / name, run)) for name, run in of.items()]

    return write


@pytest.mark.parametrize(
    ("new", "code", "said"),
    [
        (BOTH, 0, "Nothing got worse: 6 comparisons of 2 cells, each better or equivalent within 3.0 %."),
        (BOTH | {"int8": SLOW}, 1, "3 of 6 comparisons got worse: int8 chat/c8_t128 in tokens/sec (−39.3 %)"),
        (BOTH | {"int8": ONE}, 2, "Not decided: 3 of 6 comparisons, and nothing is shown to be worse"),
        ({"bf16": SLOW, "int8": ONE}, 1, "3 of 6 comparisons got worse"),
        ({"bf16": STEADY}, 2, "the new run lacks 1 cell of the old one"),
    ],
)
def test_the_exit_code_is_the_outcome_and_worse_goes_before_undecided(folders, capsys, new, code, said):
    assert main(["compare", *folders(BOTH, new)]) == code
    shown = capsys.readouterr().out
    assert said in shown.splitlines()[0]
    assert "New / old" in shown


def test_options_change_what_is_asked(folders):
    runs = folders({"bf16": STEADY, "int8": STEADY}, {"bf16": shifted(STEADY, -0.05)})
    assert main(["compare", *runs, "--subset"]) == 1
    assert main(["compare", *runs, "--subset", "--margin", "8"]) == 0
    assert main(["compare", *runs, "--subset", "--run-spread", "20"]) == 2
    assert main(["compare", *runs, "--subset", "--metrics", "p50_e2e_ms"]) == 2, "which was not measured"


def test_files_are_written(folders, tmp_path, capsys):
    out, junit = tmp_path / "out", tmp_path / "ci" / "junit.xml"
    assert main(["compare", *folders(BOTH, BOTH | {"int8": SLOW}), "--out", str(out), "--junit", str(junit)]) == 1
    with (out / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == RUN_COLUMNS
    worse = [row for row in rows if row["code"] == "worse" and not row["baseline"]]
    assert {row["model"] for row in worse} == {"int8"}
    assert worse[0]["words"].startswith("lower throughput by 39.3 % [")
    assert "▼ worse" in (out / "compare.md").read_text()
    assert "▼ worse" in (out / "compare.html").read_text()
    assert {path.name for path in out.iterdir()} == {"compare.csv", "compare.md", "compare.html"}


def test_json_is_the_whole_comparison_and_nothing_else(folders, capsys):
    assert main(["compare", *folders(BOTH, BOTH), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outcome"] == "fine"
    assert {row["code"] for row in told["rows"] if row["baseline"] is None} == {"equivalent"}


def test_junit_has_a_case_per_cell_with_failures_and_skips(folders, tmp_path):
    old = BOTH | {"int4": STEADY, "gone": STEADY}
    new = {"bf16": STEADY, "int8": SLOW, "int4": ONE}
    path = tmp_path / "junit.xml"
    assert main(["compare", *folders(old, new), "--junit", str(path)]) == 1
    suite = ElementTree.parse(path).getroot()
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped", "errors")} == {
        "tests": "4", "failures": "1", "skipped": "2", "errors": "0"
    }  # fmt: skip
    cases = {case.get("classname"): case for case in suite}
    assert cases["bf16.chat"].get("name") == "c8_t128"
    assert "equivalent within 3.0 %" in cases["bf16.chat"].findtext("system-out")
    failure = cases["int8.chat"].find("failure")
    assert "lower throughput by" in failure.get("message")
    assert "p95 E2E: slower by" in failure.text
    assert "no run tells what a restart changes" in cases["int4.chat"].find("skipped").get("message")
    assert cases["gone.chat"].find("skipped").get("message") == "only in the old run"


def refused(capsys, *line: object) -> str:
    """What is said of a line that cannot be answered."""
    assert main(["compare", *map(str, line)]) == 3
    return capsys.readouterr().err


@pytest.mark.fault(
    "`compare` of runs that differ in what is not declared", "exit 3 with the `--varies` that declares it"
)
def test_another_gpu_must_be_declared(folders, capsys):
    runs = folders(BOTH, BOTH, hardware=Hardware(names=("Other GPU",)))
    said = refused(capsys, *runs)
    assert "every cell is refused" in said
    assert "gpu (Test GPU against Other GPU)" in said
    assert "add --varies gpu;" in said
    assert main(["compare", *runs, "--varies", "gpu"]) == 0


def test_what_differs_in_several_ways_is_told_of_each_model(capsys):
    said = refused(capsys, ROOT / "docs/reference/h200-7b", H100)
    assert "weights of awq" in said
    assert "(5.38 against 1.12 GiB of them)" in said
    assert "min_seconds (6 against 20)" in said, "and what is alike for all is told once, of none"


def test_a_refused_model_leaves_the_others_undecided(tmp_path, capsys):
    old, new = facts(BOTH), facts(BOTH, day=1)
    new.ready["int8"] = replace(new.ready["int8"], versions=replace(new.ready["int8"].versions, vllm="0.99"))
    runs = [str(written(tmp_path / name, run)) for name, run in (("old", old), ("new", new))]
    assert main(["compare", *runs]) == 2
    shown = capsys.readouterr().out
    assert "refused: declare it with `--varies vllm`" in shown


@pytest.mark.fault(
    "`compare` of a folder that is no run, or of one run twice", "exit 3, which says what to give instead"
)
def test_folders_that_are_no_two_runs(folders, tmp_path, capsys):
    old, new = folders(BOTH, BOTH)
    assert "are one folder" in refused(capsys, old, old)
    copy = tmp_path / "copy"
    shutil.copytree(old, copy)
    assert "share 12 of their blocks" in refused(capsys, old, copy)
    assert "is not a folder" in refused(capsys, old, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is empty" in refused(capsys, old, tmp_path / "empty")
    assert f"a run's results are in a folder of it: {copy} or {new}" in refused(capsys, old, tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    assert "no measured blocks" in refused(capsys, old, tmp_path / "other")
    (Path(new) / "raw/bf16/chat/c8_t128/b1.json").write_text("{")
    assert "b1.json is damaged" in refused(capsys, old, new)
    (Path(new) / "servers" / "int8" / "ready.json").unlink()
    assert "nothing says how int8 was served" in refused(capsys, old, new)


def test_runs_without_a_cell_in_common(tmp_path, capsys):
    other = made.Cell.of("batch", 1, 8)
    runs = facts({"bf16": STEADY}), facts({"int8": STEADY}, day=1, cell=other)
    said = refused(capsys, *(written(tmp_path / str(n), run) for n, run in enumerate(runs)))
    assert "no cell in common: bf16 chat/c8_t128 in " in said
    assert "int8 batch/c1_t8" in said


def test_too_few_valid_blocks(tmp_path, capsys):
    runs = [facts({"bf16": STEADY}, day=day) for day in (0, 1)]
    for block in runs[1].blocks[:4]:
        faulty = {"n": 10, "failures": 5, **block.metrics}
        runs[1].blocks[runs[1].blocks.index(block)] = replace(block, metrics=faulty)
    said = refused(capsys, *(written(tmp_path / str(n), run) for n, run in enumerate(runs)))
    assert "no cell has enough valid blocks: failed_requests (new bf16 block 1)" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--varies", "sorcery"], "nothing is called sorcery"),
        (["--margin", "0"], "--margin: '0' is not a number above 0"),
        (["--metrics", "speed"], "speed: the compared metrics are throughput_tok_s"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_errors_of_usage_end_with_3(folders, capsys, arguments, said):
    try:
        code = main(["compare", *folders(BOTH, BOTH), *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 3
    assert said in capsys.readouterr().err


def test_an_error_of_usage_of_other_commands_still_ends_with_2():
    with pytest.raises(SystemExit) as ended:
        main(["lane", "--nonsense"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as helped:
        main(["compare", "--help"])
    assert helped.value.code == 0


def test_kept_runs_of_the_gpu_are_readable(capsys):
    """Early records, blocks without their requests, runs on one card and on two."""
    varies = "gpu,tensor_parallel_size,args,kv_cache_gib,gpu_memory_utilization"
    assert main(["compare", str(LANES), str(PAIR), "--subset", "--varies", varies, "--json"]) == 2
    rows = {
        (r["model"], r["baseline"], r["concurrency"], r["metric"]): r
        for r in json.loads(capsys.readouterr().out)["rows"]
    }
    assert rows["bf16", None, 16, "throughput_tok_s"]["likely"] == "gain", "two cards against one"
    assert rows["fp8", None, 16, "throughput_tok_s"]["likely"] is None, "one card both times"
    assert main(["compare", str(H100), str(LANES), "--varies", "gpu"]) == 3
    assert "weights" in capsys.readouterr().err
    assert main(["compare", str(H100), str(LANES), "--varies", "gpu,weights,protocol"]) == 2
