"""Life cycle under real snakemake with stand-in servers (tests/fake_vllm.py): each test proves one promise."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from box import GPU, Box, free_ports, jobs
from msgspec.structs import replace
from quantbench import ask_lane, kept
from quantbench.config import settings
from quantbench.records.base import read, write
from quantbench.records.block import BlockContext, ServerFacts
from quantbench.records.comparison import Verdict
from quantbench.records.quality import Answer
from quantbench.records.server import Ready
from quantbench.records.suite import SuiteScore
from servers import FAKE, no_tensors

FOLDER = """it's a {box} of "mine\""""
"""All of this works on such a path."""
NOBODY = 65534
CELL = f"results/{GPU}/cells/{{}}/chat/c{{}}_t16.csv"
CELLS = sorted(CELL.format(model, c) for model in ("alpha", "beta") for c in (1, 4))
ONE_CELL_EACH = [CELL.format(model, 4) for model in ("alpha", "beta")]


def misbehave(**rules: object) -> dict[str, Any]:
    """Model settings that make its stand-in server misbehave; see tests/fake_vllm.py."""
    return {"server": {"env": {"FAKE_VLLM": json.dumps(rules)}}}


PLANTED = "hf_" + "Pl4nt3dS3cr3t" * 2


def plant(patch: pytest.MonkeyPatch) -> None:
    """Secrets in the shell of a run."""
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "VLLM_API_KEY", "VLLM_MY_TOKEN", "VLLM_ODD", "DB_PASSWORD"):
        patch.setenv(name, PLANTED)
    patch.setenv("VLLM_URL", f"https://me:{PLANTED}@host")


def files_with(box: Box, secret: str) -> list[str]:
    everything = (path for path in box.path.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path.relative_to(box.path)) for path in everything if secret.encode() in path.read_bytes()]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A finished run, with secrets in its shell; tests take copies of it."""
    box = Box(tmp_path_factory.mktemp("template") / FOLDER)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        assert PLANTED not in box.run("capacity")
    box.assert_none_left()
    yield box
    box.clean_up()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Box]:
    """Nothing measured yet."""
    box = Box(tmp_path / FOLDER)
    yield box
    box.clean_up()


@pytest.fixture
def small(fresh: Box) -> Box:
    """One cell, four blocks: A B B A."""
    fresh.configure(workloads={"chat": {"concurrency": [4]}})
    return fresh


@pytest.fixture
def done(template: Box, fresh: Box) -> Box:
    """A copy of the finished run."""
    shutil.rmtree(fresh.path)
    shutil.copytree(template.path, fresh.path, ignore=shutil.ignore_patterns("state"))
    fresh.configure(**template.config)
    fresh.forget_events()
    return fresh


# What is made, and what a change makes again ----------------------------------------------------------------------


def test_a_run_builds_every_tuple_interleaved_and_a_second_one_has_nothing_to_do(template: Box) -> None:
    assert template.results("cells/*/chat/*.csv") == CELLS
    assert sorted(template.started()) == ["alpha", "beta"], "one start each"
    order = [(e["model"], e["cell"].rpartition("/")[0]) for e in template.events("block begins")]
    for cell in {cell for _, cell in order}:
        assert [model for model, c in order if c == cell] == ["alpha", "beta", "beta", "alpha"]
    assert "Nothing to be done" in template.run("capacity")
    assert len(template.started()) == 2


VERDICT = f"results/{GPU}/comparison/verdict.json"


def servers_of_blocks(box: Box) -> dict[str, list[float | None]]:
    """{arm: the server of each block, by number}."""
    found: dict[str, list[float | None]] = {}
    for path in sorted(box.file("raw").glob("*/chat/*/b*.json")):
        context = read(path, BlockContext)
        found.setdefault(context.arm, []).append(context.server.started_unix)
    return found


def test_of_two_starts_each_has_its_half_of_the_blocks_and_a_second_plan_has_nothing_to_do(small: Box) -> None:
    small.configure(starts=2, blocks=4)
    small.run("capacity", VERDICT)
    assert small.started() == ["alpha", "beta"] * 2
    assert [event["model"] for event in small.events("block begins")] == ["alpha", "beta", "beta", "alpha"] * 2
    for servers in servers_of_blocks(small).values():
        first, second = servers[0], servers[2]
        assert servers == [first, first, second, second]
        assert first != second
    verdict, servers = read(small.path / VERDICT, Verdict), servers_of_blocks(small)["alpha"]
    refused = {block.block for row in verdict.rows for block in row.invalid_blocks}
    paired = {server for number, server in enumerate(servers, start=1) if number not in refused}
    assert {row.starts for row in verdict.starts} == ({len(paired)} if paired else set())
    assert small.plan("capacity", VERDICT) == {}
    small.configure(starts=1)
    assert "measure_tuple" not in small.plan("capacity", VERDICT), "another number of starts measures nothing again"
    small.assert_none_left()


def test_a_lane_that_restarts_its_servers_goes_through_its_models_once_for_each_start(small: Box) -> None:
    small.configure(starts=2, blocks=4, lanes={"one": {"mode": "restart"}})
    small.run("capacity")
    assert small.started() == ["alpha", "beta"] * 3, "once before the first block"
    assert [event["model"] for event in small.events("block begins")] == [*("alpha",) * 2, *("beta",) * 2] * 2
    assert all(len(set(servers)) == 2 for servers in servers_of_blocks(small).values())
    assert not small.plan("capacity")
    small.assert_none_left()


@pytest.mark.fault(
    "`kill -9` of snakemake within the second of two starts",
    "what is missing is measured with a third, which its block tells; finished blocks are kept",
)
def test_a_run_that_ended_within_its_second_start_goes_on_with_a_server_of_its_own(small: Box) -> None:
    small.configure(starts=2, blocks=2)
    run = small.spawn("capacity")
    for begun in range(1, 5):
        small.wait_for(lambda begun=begun: len(small.events("block begins")) >= begun)
    os.kill(run.pid, signal.SIGKILL)
    run.wait(60)
    small.assert_none_left()
    before = servers_of_blocks(small)
    assert [len(before[arm]) for arm in ("alpha", "beta")] == [1, 2], "A B, B: the second block of A was under way"
    small.run("capacity")
    after = servers_of_blocks(small)
    assert after["beta"] == before["beta"]
    assert after["alpha"][0] == before["alpha"][0]
    assert len(set(after["alpha"] + after["beta"])) == 4, "no two blocks of an arm are of one start"
    assert small.started() == ["alpha", "beta", "beta", "alpha", "alpha"], "the last but one in the block that was lost"
    assert small.plan("capacity") == {}


@pytest.mark.fault(
    "secrets in the shell (HF_TOKEN, OPENAI_API_KEY, VLLM_API_KEY, any VLLM_MY_TOKEN) through a whole run",
    "servers inherit them but VLLM_API_KEY; no file, page, log or message holds one, nor snakemake's own files",
)
def test_no_file_of_a_run_holds_a_secret_of_the_shell(template: Box) -> None:
    assert files_with(template, PLANTED) == []
    kept = json.loads(template.file("servers/alpha/ready.json").read_text())["settings"]["inherited_env"]
    assert kept["VLLM_MY_TOKEN"] == kept["VLLM_ODD"] == kept["VLLM_URL"] == "set"
    assert "VLLM_API_KEY" not in kept


def test_a_deleted_csv_is_rebuilt_from_kept_blocks_without_a_server(done: Box) -> None:
    path = done.path / CELLS[0]
    before = path.read_text()
    path.unlink()
    assert jobs(done.run("capacity")) == {"summarize_tuple": 1, "capacity": 1}
    assert path.read_text() == before
    assert not done.started()


def test_one_csv_again_starts_only_its_server(done: Box) -> None:
    made = jobs(done.run(CELL.format("beta", 4), options=["--forcerun", "measure_tuple"]))
    assert made["measure_tuple"] == 1
    assert len(done.events("block begins")) == 2
    assert "start_server" not in made
    assert done.started() == ["beta"]
    done.assert_none_left()


def test_one_csv_on_a_fresh_clone_starts_only_its_server(fresh: Box) -> None:
    target = f"results/{GPU}/cells/beta/chat/c2_t8.csv"  # not in the grid
    assert jobs(fresh.run(target))["measure_tuple"] == 1
    assert fresh.started() == ["beta"]
    assert fresh.results("cells/*/chat/*.csv") == [target]
    fresh.assert_none_left()


@pytest.mark.fault(
    "blocks that are damaged, or refused by a guard", "named; measured again once deleted, and nothing else"
)
def test_damaged_and_refused_blocks_are_measured_again_once_they_are_deleted_and_nothing_else(done: Box) -> None:
    """The remedies of the error and of notes.md."""
    damaged, refused = (done.file(f"raw/{block}") for block in ("alpha/chat/c4_t16/b1", "beta/chat/c4_t16/b2"))
    damaged.with_suffix(".json").write_text("{")
    assert f"{damaged.relative_to(done.path)}.json is damaged" in done.run("capacity", ok=False)
    damaged.with_suffix(".json").unlink()
    for suffix in (".json", ".parquet"):
        refused.with_suffix(suffix).unlink()
    done.forget_events()
    assert jobs(done.run("capacity")) == {"measure_tuple": 2, "summarize_tuple": 2, "capacity": 1}
    assert len(done.events("block begins")) == 2


def other_weights(box: Box) -> None:
    (box.path / "models/beta/config.json").write_text('{"model_type": "fake", "other": 1}')


def git_checkout(box: Box) -> None:
    for pattern in ("workflow/**/*.py", "rules/*", "Snakefile", "config/prompts/chat.jsonl"):
        for path in box.path.glob(pattern):
            path.touch()


def another_place(box: Box) -> None:
    """What remedies name: port, patience, lane."""
    box.config["lanes"]["uno"] = box.config["lanes"].pop("one")
    models = {"alpha": {"port": free_ports(1)[0], "lane": "uno"}, "beta": {"lane": "uno"}}
    box.configure(server={"start_timeout_s": 61}, models=models)


def config(**changes: Any) -> Callable[[Box], None]:
    return lambda box: box.configure(**changes)


CHANGES: dict[str, tuple[Callable[[Box], None], tuple[int, int, int]]] = {
    "nothing": (lambda _: None, (0, 0, 0)),
    "a price": (config(cost={"hourly_price": 9.0}), (0, 0, 0)),
    "what is declared": (config(models={"beta": {"differs_in": ["weights", "kv_cache"]}}), (0, 0, 2)),
    "rounds of starts": (config(startup_rounds=1), (0, 0, 0)),
    "another place": (another_place, (0, 0, 0)),
    "a git checkout": (git_checkout, (0, 0, 0)),
    "a load more": (config(workloads={"chat": {"concurrency": [1, 2, 4]}}), (0, 2, 2)),
    "a block more": (config(blocks=3), (0, 4, 4)),
    "another server": (config(models={"beta": {"server": {"max_num_seqs": 32}}}), (1, 2, 2)),
    "another model of the same name": (other_weights, (1, 2, 2)),
}
"""A change, and how many servers start, and tuples are measured and summarized again."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_what_depends_on_it(done: Box, name: str) -> None:
    change, expected = CHANGES[name]
    change(done)
    planned = done.plan("capacity")
    assert tuple(planned.get(rule, 0) for rule in ("start_server", "measure_tuple", "summarize_tuple")) == expected
    assert bool(planned) == any(expected)


def test_a_server_of_another_configuration_is_started_where_it_now_belongs(done: Box) -> None:
    port = free_ports(1)[0]
    done.configure(models={"beta": {"port": port, "server": {"max_num_seqs": 32}}})
    made = jobs(done.run("capacity"))
    assert (made["start_server"], made["measure_tuple"]) == (1, 2)
    assert done.started() == ["beta"]
    assert f"--port {port} " in done.file("servers/beta/server.log").read_text()


@pytest.mark.fault(
    "results without `.snakemake` (copied, cloned), another server configured",
    "blocks of the old one are set aside, said, and measured again; nothing of both is pooled",
)
@pytest.mark.fault(
    "a configuration changed, measured, and changed back", "0 blocks measured, same figures to the last byte"
)
def test_what_a_block_was_measured_with_decides_and_not_what_snakemake_remembers(done: Box) -> None:
    figures = {path: (done.path / path).read_bytes() for path in CELLS}
    target, block = CELL.format("beta", 4), done.file("raw/beta/chat/c4_t16/b1.json")
    shutil.rmtree(done.path / ".snakemake")
    for path in (done.path / "config/prompts/chat.jsonl", done.file("servers/beta/ready.json")):
        path.touch()
    assert "measure_tuple" not in done.plan("capacity"), "times are a hint only"
    done.configure(models={"beta": {"server": {"max_num_seqs": 7}}}, blocks=3)
    printed = done.run(target)
    assert (jobs(printed)["measure_tuple"], len(done.events("block begins"))) == (1, 3)
    assert "4 blocks of beta of another configuration (max_num_seqs 64, now 7)" in printed
    told = [json.loads(path.read_text()) for path in sorted(block.parent.glob("b*.json"))]
    hashes = {it["server"]["spec_hash"] for it in told}
    assert [it["measured_with"]["server"]["spec"]["settings"]["max_num_seqs"] for it in told] == [7, 7, 7]
    assert hashes == {json.loads(done.file("servers/beta/ready.json").read_text())["spec_hash"]}
    done.forget_events()
    done.configure(models={"beta": {"server": {"max_num_seqs": 64}}}, blocks=2)
    printed = done.run("capacity")
    assert "2 blocks of this configuration were set aside before" in printed
    assert not done.events("block begins")
    assert not done.started()
    assert {path: (done.path / path).read_bytes() for path in CELLS} == figures
    assert not done.plan("capacity")


@pytest.mark.fault("`b1.parquet` or `b1.json` deleted, its tuple asked for by name", "that block is measured, only it")
@pytest.mark.fault("`ready.json` deleted", "the server is started once and tells; 0 blocks measured")
@pytest.mark.fault('`"protocol": 0` in a block', "left out of every figure, named with what differs; measured again")
def test_what_is_lost_or_not_of_this_configuration_is_found_when_it_is_asked_for(done: Box) -> None:
    target, block = CELL.format("beta", 4), done.file("raw/beta/chat/c4_t16/b1.json")
    ready = done.file("servers/beta/ready.json")
    lost = [block, block.with_name("b2.parquet"), done.file("client/calibration_c4.json")]
    whole = {path: path.read_bytes() for path in lost}
    for path in lost:
        path.unlink()
    assert done.plan(target) == {"measure_tuple": 1, "calibrate_client": 1, "summarize_tuple": 1}
    assert done.plan(CELL.format("beta", 1)) == {}, "nobody asked for it"
    for path, content in whole.items():
        path.write_bytes(content)
    block.write_text(block.read_text().replace('"protocol": 1', '"protocol": 0'))
    printed = done.run(target, options=["--forcerun", "summarize_tuple", "--allowed-rules", "summarize_tuple"])
    words = "b1 left out, measured with another configuration (protocol 0, now 1); run snakemake again"
    assert f"beta chat/c4_t16: {words}" in printed
    row = next(csv.DictReader((done.path / target).open()))
    assert (row["blocks"], row["blocks_invalid"], row["valid"]) == ("1", "1", "false")
    assert row["reasons"].startswith("other_configuration;")
    ready.unlink()
    done.run("capacity")
    assert ready.exists()
    assert (done.started(), len(done.events("block begins"))) == (["beta"], 1)
    assert len(done.results("raw/beta/chat/c4_t16/set_aside/*/b1.json")) == 1
    assert not done.plan("capacity")


MAKER = """#!{python}
import json, pathlib, sys
size, out = int(sys.argv[sys.argv.index("--group-size") + 1]), pathlib.Path(sys.argv[-1])
if 512 % size:
    sys.exit(f"group size {{size}} does not divide the 512 inputs")
groups = {{"group_0": {{"weights": {{"num_bits": 4, "group_size": size}}}}}}
out.mkdir()
(out / "config.json").write_text(
    json.dumps({{"quantization_config": {{"quant_method": "compressed-tensors", "config_groups": groups}}}})
)
(out / "model.safetensors").write_bytes((64 + size).to_bytes(8, "little") + b"{{}}".ljust(64 + size))
"""
"""A stand-in for the quantizer: called as the interpreter that would run it."""


@pytest.mark.fault("`group_size` that the model cannot have, put back", "0 blocks measured, no server started")
def test_a_mistake_that_was_undone_measures_nothing_again(fresh: Box) -> None:
    (fresh.path / "maker").write_text(MAKER.format(python=sys.executable))
    (fresh.path / "maker").chmod(0o755)
    (fresh.path / "models/alpha/model.safetensors").write_bytes(no_tensors(64))
    int4 = {"quantize": {"from": "alpha", "scheme": "W4A16"}, "load_format": "dummy", "port": free_ports(1)[0]}
    fresh.configure(vllm_python=str(fresh.path / "maker"), models={"int4": int4}, select=["alpha", "int4"], blocks=1)
    target = CELL.format("int4", 1)
    fresh.run(target)
    figures, block = (fresh.path / target).read_bytes(), fresh.file("raw/int4/chat/c1_t16/b1.json").read_bytes()
    fresh.forget_events()

    def group_size(size: int) -> None:
        fresh.configure(models={"int4": {"quantize": {"group_size": size}}})

    group_size(100)
    assert "group size 100 does not divide" in fresh.run(target, ok=False)
    assert fresh.file("raw/int4/chat/c1_t16/b1.json").read_bytes() == block
    group_size(128)
    for path in ("workflow/quantizers/rtn.py", "models/alpha/config.json", f"models/{GPU}/int4/provenance.json"):
        (fresh.path / path).touch()
    assert "measure_tuple" not in fresh.plan(target)
    fresh.run(target)
    assert not fresh.started()
    assert (fresh.path / target).read_bytes() == figures
    assert fresh.file("raw/int4/chat/c1_t16/b1.json").read_bytes() == block
    assert not fresh.plan(target)


def test_without_a_baseline_that_does_not_fit_the_kept_blocks_of_the_others_are_judged(done: Box) -> None:
    done.configure(models={"alpha": {"fits": False}})
    made = jobs(done.run(f"results/{GPU}/memory.csv"))
    assert made == {"stop_server": 1, "tabulate_memory": 1}
    with done.file("memory.csv").open() as table:
        assert [(row["model"], row["gpus"]) for row in csv.DictReader(table)] == [("beta", "1")]
    assert list(json.loads(done.file("servers/unfit.json").read_text())) == ["alpha"]
    assert done.started() == []


def test_start_up_is_measured_when_asked_for_and_measures_nothing_else_again(done: Box) -> None:
    done.configure(startup_rounds=1)
    assert jobs(done.run(f"results/{GPU}/startup.csv")) == {"measure_startup": 2, "tabulate_startup": 1}
    with done.file("startup.csv").open() as table:
        rows = [(row["model"], row["source"], row["compile_cache"], row["starts"]) for row in csv.DictReader(table)]
    eager = [(m, source, "off", n) for m in ("alpha", "beta") for source, n in (("run", "1"), ("startup_rounds", "2"))]
    assert rows == eager
    assert sorted(done.started()) == ["alpha", "alpha", "beta", "beta"]
    done.assert_none_left()


def finish_without_running(box: Box, *targets: str) -> None:
    """Put empty files where results are not made yet, and have snakemake take them as made."""
    table = box.run(*targets, options=["--summary"]).partition("output_file\t")[2]
    for line in table.splitlines()[1:]:
        path = box.path / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    box.run(*targets, options=["--touch", "--forceall"], ok=None)  # not good: its last words are of decision.json


def tell(box: Box) -> None:
    """Have what is measured say that it was measured with the configuration of now."""
    plan = settings.load(box.path, {"gpu": GPU})
    wanted = kept.expected(plan)
    for path in (box.path / name for name in box.results("raw/*/*/*/b*.json")):
        block = read(path, BlockContext)
        write(path, replace(block, server=ServerFacts(), measured_with=wanted.block(block.arm, block.cell)))
    for path in (box.path / name for name in box.results("raw/*/*/*/measured.json")):
        write(path, {"measured": [1, 2], "blocks": ask_lane.blocks_in(str(path.parent))})
    for path in (box.path / name for name in box.results("servers/*/ready.json")):
        ready = read(path, Ready)
        write(path, replace(ready, served_with=wanted.servers[ready.model]))


def test_new_judgement_remakes_tables_and_pages_and_measures_nothing(
    done: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are measured; the results that no dry run reads are empty files."""
    monkeypatch.chdir(done.path)
    for name in ("alpha", "beta"):  # only of real weights are answers asked
        done.config["models"][name].pop("load_format")
        (done.path / f"models/{name}/model.safetensors").write_bytes(no_tensors(64))
    done.configure(quality={"prompts": "config/prompts/quality.jsonl", "suites": {"tasks": None, "likelihood": None}})
    tell(done)
    finish_without_running(done)

    def remade(*changed: str) -> set[str]:
        """The rules of a dry run after a change of these files, which is taken back."""
        before = {done.path / "workflow" / name: (done.path / "workflow" / name).read_bytes() for name in changed}
        for path, content in before.items():
            path.write_bytes(content + b"\n")
        planned = done.plan()
        for path, content in before.items():
            path.write_bytes(content)
        return set(planned) - {"all"}

    judged = remade("quantbench/judge/verdict.py")
    assert not judged & {"measure_tuple", "generate_answers", "start_server", "stop_server", "calibrate_client"}
    assert {"summarize_tuple", "compare_models", "score_quality", "price_tokens", "write_report"} <= judged
    for path in ("quantbench/quality/score.py", "quantbench/report/pages.py", "templates/report.html.j2"):
        assert remade(path) == judged, path
    assert remade("quantbench/client/load.py", "quantbench/serving/lane.py", "scripts/measure_tuple.py") == set()


# Quality suites ---------------------------------------------------------------------------------------------------


def item(name: str, **changes: Any) -> dict[str, Any]:
    checks = [{"type": "contains", "any": ["word"]}]
    return {"id": name, "class": "fact", "prompt": f"Say {name}.", "max_tokens": 4, "checks": checks} | changes


def write_items(box: Box, *items: dict[str, Any]) -> None:
    (box.path / "tasks.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))


TASKS = f"results/{GPU}/suites/tasks/{{}}.json"
TASKS_SCORE = f"results/{GPU}/suites/tasks/beta.score.json"


@pytest.fixture
def with_tasks(small: Box) -> Box:
    """Models with real weights, two quality prompts, and the suite `tasks` of three items."""
    for name in ("alpha", "beta"):  # only of real weights are answers asked
        small.config["models"][name].pop("load_format")
        (small.path / f"models/{name}/model.safetensors").write_bytes(no_tensors(64))
    (small.path / "two.jsonl").write_text("".join(f"{json.dumps(item(name))}\n" for name in "xy"))
    write_items(small, *map(item, ("a", "b", "c")))
    tasks = {"kind": "answers", "items": "tasks.jsonl", "concurrency": 1, "floor_concurrency": 2, "floor_repeat": True}
    suites = {"tasks": tasks, "likelihood": None}
    told = {"server": {"env": {"FAKE_VLLM": json.dumps({"tell": str(small.path / "told.jsonl")})}}}
    small.configure(quality={"prompts": "two.jsonl", "suites": suites}, **told)
    return small


def asked(box: Box) -> int:
    """How many prompts servers have answered since this was asked last."""
    told = box.path / "told.jsonl"
    lines = told.read_text().splitlines() if told.exists() else []
    told.unlink(missing_ok=True)
    return len(lines)


def test_a_suite_asks_only_what_is_new_and_is_scored_without_a_server(with_tasks: Box) -> None:
    box = with_tasks
    planned = box.plan()
    assert (planned["collect_suite"], planned["generate_answers"], planned["score_suite"]) == (2, 2, 2)
    assert jobs(box.run(TASKS.format("beta"))) == {"start_server": 1, "collect_suite": 1}, "one suite of one model"
    assert (asked(box), box.started()) == (3, ["beta"])

    assert "score_suite" in jobs(box.run(TASKS_SCORE))
    assert asked(box) == 9, "the baseline: once, again, and again at another concurrency"
    score = read(box.path / TASKS_SCORE, SuiteScore)
    assert [(o.id, o.baseline.passed, o.variant.passed, len(o.again)) for o in score.outcomes] == [
        (name, True, True, 2) for name in "abc"
    ]
    assert box.plan(TASKS_SCORE) == {}

    write_items(box, item("a"), item("b", prompt="Say it."), item("c", checks=[]), item("d"))
    assert jobs(box.run(TASKS_SCORE)) == {"collect_suite": 2, "score_suite": 1}
    assert asked(box) == 2 * 4, "b was changed and d is new; of c only the check is another one"
    assert [answer.id for answer in read(box.path / TASKS.format("beta"), list[Answer])] == list("abcd")

    box.forget_events()
    write_items(box, item("a"), item("b", checks=[]))
    box.configure(quality={"suites": {"tasks": {"limit": 1}}})
    box.run(TASKS_SCORE)
    assert (asked(box), box.started()) == (0, []), "both prompts were asked before, and limit 1 takes the first"
    write_items(box, item("a", checks=[]))
    assert box.plan(TASKS_SCORE) == {"score_suite": 1}, "checks ask nobody"
    box.run(TASKS_SCORE, options=["--forcerun", "collect_suite"])
    assert asked(box) == 4

    box.configure(models={"beta": {"server": {"max_num_seqs": 7}}})
    box.run(TASKS_SCORE)
    assert asked(box) == 1, "another server"
    box.configure(models={"beta": {"server": {"max_num_seqs": 64}}})
    box.run(TASKS_SCORE)
    assert asked(box) == 0, "and what the first has answered is still there"
    box.assert_none_left()


@pytest.mark.fault(
    "`kill -9` of snakemake while a server answers a suite", "answers given are kept; the next run asks for the others"
)
def test_a_suite_that_was_killed_goes_on_where_it_was(with_tasks: Box) -> None:
    box = with_tasks
    write_items(box, *(item(f"n{n}") for n in range(40)))
    slow = {"FAKE_VLLM": json.dumps({"tell": str(box.path / "told.jsonl"), "slow": [1, 0.1]})}
    box.configure(server={"env": slow})
    run = box.spawn(TASKS.format("beta"))
    told = box.path / "told.jsonl"
    box.wait_for(lambda: told.exists() and len(told.read_text().splitlines()) >= 5)
    os.kill(run.pid, signal.SIGKILL)
    run.wait(60)
    box.assert_none_left()
    before = asked(box)
    assert 5 <= before < 40
    box.run(TASKS.format("beta"))
    assert asked(box) in (40 - before, 41 - before), "one answer may have been on its way"
    assert len(read(box.path / TASKS.format("beta"), list[Answer])) == 40
    box.assert_none_left()


@pytest.mark.fault(
    "a server that closes the connection of every answer to a suite",
    "the suite ends with the server's words and what to do; no result is written",
)
def test_a_suite_whose_server_fails_says_so(with_tasks: Box) -> None:
    box = with_tasks
    rules = {"FAKE_VLLM": json.dumps({"drop": 1})}
    box.configure(server={"env": rules})
    printed = box.run(TASKS.format("beta"), ok=False)
    assert "did not answer" in printed
    assert not (box.path / TASKS.format("beta")).exists()
    box.assert_none_left()


def test_two_profiles_may_make_different_models_of_one_name(fresh: Box) -> None:
    def is_made(gpu: str, scheme: str, *, make: bool = False) -> bool:
        fresh.gpu, fresh.profile = gpu, ["--config", f"gpu={gpu}"]
        model = {"quantize": {"from": "alpha", "scheme": scheme}, "port": 8000}
        fresh.configure(gpu=gpu, models={"int8": model}, select=["alpha", "int8"])
        target = f"models/{gpu}/int8/provenance.json"
        if make:
            finish_without_running(fresh, target)
        return not fresh.plan(target)

    assert not is_made("small", "W8A8")
    assert is_made("small", "W8A8", make=True)
    assert is_made("large", "FP8_DYNAMIC", make=True)
    assert is_made("small", "W8A8")
    assert is_made("large", "FP8_DYNAMIC")


def test_refine_adds_blocks_until_the_precision_or_the_most_blocks(done: Box) -> None:
    done.configure(refine={"max_blocks": 3, "budget_minutes": 60}, workloads={"chat": {"concurrency": [4]}})
    (done.path / "mine.yaml").write_text(f"gpu: {GPU}\n")
    given = ["--configfile", "mine.yaml", "--config", "margin=0.05"]
    printed = done.execute("quantbench", "refine", "--precision", "0.000001", *given, ok=False)  # cannot be reached
    assert "refine: adding 1 blocks of chat/c4_t16" in printed, printed[-3000:]
    # On a machine so busy that guards refuse the blocks, that is said instead.
    assert "still wider than" in printed or "refused by guards" in printed
    assert len(done.results("raw/*/chat/c4_t16/b*.json")) == 2 * 3, "three blocks of each model, no more"
    assert not done.plan("capacity"), "what was added stays part of the cell"


def test_pages_print_the_line_that_repeats_the_run_and_do_not_depend_on_it(
    done: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    (done.path / "mine.yaml").write_text("precision: 0.5\n")
    page = f"results/{GPU}/report/decision.md"
    done.profile = ["--configfile", "mine.yaml", "--config", f"gpu={GPU}", "margin=0.05"]
    done.run(page)
    assert f"snakemake --cores 1 {shlex.join(done.profile)}\n" in (done.path / page).read_text()
    assert files_with(done, PLANTED) == [], "pages neither"
    done.profile.append("refine={'budget_minutes': 7}")
    assert not done.plan(page), "how it was asked for is no reason to make anything again"


# One machine, several jobs and runs -------------------------------------------------------------------------------


@pytest.mark.fault("`--cores 8`", "never two cells on one lane at once")
def test_many_cores_never_measure_two_cells_of_a_lane_at_once(fresh: Box) -> None:
    fresh.configure(select=["alpha", "beta", "gamma"], blocks=1)
    fresh.run("capacity", cores=8)
    spans: dict[str, list[tuple[float, float]]] = {"one": [], "two": []}
    begun: dict[str, float] = {}
    for event in fresh.events():
        if event["event"] == "block begins":
            begun[event["model"]] = event["t"]
        elif event["event"] == "block ends":
            spans[event["lane"]].append((begun[event["model"]], event["t"]))
    assert {lane: len(s) for lane, s in spans.items()} == {"one": 4, "two": 2}
    for lane_spans in spans.values():
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(sorted(lane_spans)))
    fresh.assert_none_left()


@pytest.mark.fault("two runs at once, in one folder or on one device", "the second says so, waits, and completes")
def test_two_runs_at_once_wait_for_each_other(fresh: Box, tmp_path: Path) -> None:
    other = Box(tmp_path / "other")
    other.state = fresh.state  # one machine, two folders
    first = fresh.spawn(CELL.format("alpha", 1))
    fresh.wait_for(lambda: fresh.events("block begins"))
    os.killpg(first.pid, signal.SIGSTOP)  # until both others are there
    same_folder = fresh.spawn(CELL.format("beta", 1))
    other_folder = other.spawn(CELL.format("alpha", 1))
    fresh.wait_for(lambda: "waiting for the run" in fresh.out.read_text())
    other.wait_for(lambda: "another run" in other.out.read_text())
    os.killpg(first.pid, signal.SIGCONT)
    for run in (first, same_folder, other_folder):
        assert run.wait(180) == 0, fresh.out.read_text()[-3000:]
    assert len(fresh.results("cells/*/chat/*.csv")) == 2
    assert len(fresh.events("start")) == 2, "nobody's server was taken away"
    assert other.events()[0]["t"] >= fresh.events("block ends")[0]["t"]
    fresh.assert_none_left()


@pytest.mark.fault(
    "two comparisons of the same models at once on one host, each with the GPU that its job was given",
    "they run side by side, on free ports; neither waits for the other or takes its servers",
)
def test_two_runs_on_devices_of_their_own_run_side_by_side(small: Box, tmp_path: Path) -> None:
    other = Box(tmp_path / "other")
    other.state = small.state
    models = {name: {"port": None, "lane": "one"} for name in ("alpha", "beta", "gamma")}
    for card, box in enumerate((small, other)):
        box.configure(models=models, lanes={"one": {"devices": ["0"]}}, workloads={"chat": {"concurrency": [4]}})
        box.shell = {"CUDA_VISIBLE_DEVICES": str(card)}
    runs = [box.spawn("capacity") for box in (small, other)]
    for run, box in zip(runs, (small, other), strict=True):
        assert run.wait(300) == 0, box.out.read_text()[-3000:]
        assert "waiting for" not in box.out.read_text()
    begun = [min(event["t"] - event["seconds"] for event in box.events("start")) for box in (small, other)]
    ended = [max(event["t"] for event in box.events("block ends")) for box in (small, other)]
    assert max(begun) < min(ended), "neither had to end before the other began"
    for box in (small, other):
        assert sorted(box.started()) == ["alpha", "beta"], "nobody's server was taken away"
        assert len(box.results("raw/*/chat/*/b*.json")) == 4
    urls = [json.loads(box.file(f"servers/{m}/ready.json").read_text())["url"] for box in (small, other) for m in models
            if m != "gamma"]  # fmt: skip
    assert len(set(urls)) == 4
    # On another card of its kind it is the same comparison: nothing is measured again.
    other.shell = {"CUDA_VISIBLE_DEVICES": "3"}
    assert not other.plan("capacity")
    small.assert_none_left()


def as_ordinary_user(*command: str) -> list[str]:
    """The command run by a user without rights; by this one, if it is not root. Skips where that cannot be had."""
    if os.getuid() != 0:
        return list(command)
    if not shutil.which("setpriv"):
        pytest.skip("run by root, and there is no setpriv to become another user")
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", *command]


def open_python() -> str:
    """An interpreter of our version that every user may run: root's own may lie in root's home."""
    for python in (sys.executable, "/usr/bin/python3"):
        line = as_ordinary_user("sh", "-c", f"{python} -c 'import sys; print(sys.version_info[:2])'")
        said = subprocess.run(line, capture_output=True, text=True, check=False).stdout
        if said.strip() == str(sys.version_info[:2]):
            return python
    pytest.skip("no interpreter of this version that another user may run")


@pytest.mark.fault("an ordinary user, umask 077", "works, and nothing that is written is open to others")
def test_an_ordinary_user_with_a_strict_umask() -> None:
    python, library = open_python(), sysconfig.get_path("purelib")
    with TemporaryDirectory() as open_to_all:
        root = Path(open_to_all)
        root.chmod(0o755)
        box = Box(root / FOLDER)
        box.configure(server={"command": [python, str(FAKE)]})
        before = {root, *root.rglob("*")}
        if os.getuid() == 0:
            for path in before:
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        line = " ".join(map(shlex.quote, [python, "-m", *box.command_line("capacity")]))
        where: dict[str, Any] = {
            "cwd": box.path,
            "env": {**box.environment(), "PYTHONPATH": library, "HOME": str(root)},
        }
        ran = subprocess.run(
            as_ordinary_user("sh", "-c", f"umask 077; {line}"), **where, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        made = {path for part in ("results", "logs", "state") for path in (box.path / part).rglob("*")}
        assert not [path for path in made if path.lstat().st_mode & 0o077 and not path.is_symlink()]
        box.assert_none_left()


# What is interrupted, and what breaks ------------------------------------------------------------------------------


KEPT = "nothing left running, finished blocks kept, the next run completes"


@pytest.mark.parametrize(
    ("number", "to_group"),
    [
        pytest.param(
            signal.SIGINT, True, marks=pytest.mark.fault("Ctrl-C in a block", f"one sentence says what is kept; {KEPT}")
        ),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.fault("SIGTERM to snakemake alone", KEPT)),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.fault("SIGTERM to all processes of a run", KEPT)),
        pytest.param(signal.SIGKILL, False, marks=pytest.mark.fault("`kill -9` of snakemake in a block", KEPT)),
    ],
)
def test_an_ended_run_leaves_nothing_and_the_next_completes(small: Box, number: signal.Signals, to_group: bool) -> None:
    run = small.spawn("capacity")
    # When the third block has begun, the jobs of the first two are over.
    small.wait_for(lambda: len(small.events("block begins")) >= 3)
    finished = small.results("raw/*/chat/*/b*.json")
    assert len(finished) >= 2
    (os.killpg if to_group else os.kill)(run.pid, number)
    struck = time.monotonic()
    assert run.wait(100) != 0
    small.assert_none_left(since=struck)
    if number != signal.SIGKILL:
        assert "Traceback" not in small.out.read_text()
        last = small.out.read_text().strip().splitlines()[-1]
        assert re.search(r"[2-4] of 4 blocks are kept, and the same command goes on from there", last), last
        assert "interrupted" in last
    assert set(finished) <= set(small.results("raw/*/chat/*/b*.json")), "finished blocks are kept"
    small.forget_events()
    small.run("capacity")
    assert len(small.events("block begins")) <= 4 - len(finished)
    assert small.results("cells/*/chat/*.csv") == ONE_CELL_EACH
    small.assert_none_left()


@pytest.mark.fault(
    "SIGTERM of a scheduler (30 s grace) to snakemake in a block of a minute, or while a server starts",
    f"the jobs end at once, not after their minute; {KEPT}",
)
@pytest.mark.parametrize("mid", ["block", "start"])
def test_a_schedulers_sigterm_does_not_wait_for_what_is_under_way(small: Box, mid: str) -> None:
    slow = {"block": {"min_seconds": 60}} if mid == "block" else {"models": {"beta": misbehave(start_s=300)}}
    usual = {"block": {"min_seconds": 0.2}} if mid == "block" else {"models": {"beta": misbehave()}}
    small.configure(**slow)
    run = small.spawn("capacity")
    if mid == "block":
        small.wait_for(lambda: small.events("block begins"))
    else:
        small.wait_for(lambda: any(state.is_dir() for state in small.state.glob("*/servers/beta-*")))
    run.terminate()
    struck = time.monotonic()
    assert run.wait(25) != 0
    small.assert_none_left(since=struck)
    assert time.monotonic() - struck < 25, "a scheduler kills after 30 s"
    assert "blocks are kept, and the same command goes on from there" in small.out.read_text()
    small.configure(**usual)
    small.run("capacity")
    assert small.results("cells/*/chat/*.csv") == ONE_CELL_EACH
    small.assert_none_left()


@pytest.mark.fault(
    "`kill -9` of a server, in a block or between two",
    "at most one block is lost; the run goes on, or the next one does",
)
@pytest.mark.parametrize("when", ["block begins", "block ends"])
def test_a_killed_server_costs_one_block_at_most(small: Box, when: str) -> None:
    run = small.spawn("capacity")
    small.wait_for(lambda: small.events(when))
    model = small.events(when)[0]["model"]
    victims = [pid for pid, line in small.living().items() if f"--served-model-name {model} " in line + " "]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert victims
    if run.wait(180):
        small.run("capacity")
    assert small.results("cells/*/chat/*.csv") == ONE_CELL_EACH
    assert small.started().count(model) >= 2
    assert len(small.events("block begins")) <= len(small.results("raw/*/*/*/b*.json")) + 1
    small.assert_none_left()


@pytest.mark.fault(
    "the terminal or pipe that a run speaks to goes away (a lost connection, `| head`)",
    "the run goes on to its end; what it says is lost",
)
def test_a_run_outlives_whoever_listens(small: Box) -> None:
    heard, said = os.pipe()
    line = [sys.executable, "-m", *small.command_line("capacity")]
    where: dict[str, Any] = {"cwd": small.path, "env": small.environment(), "start_new_session": True}
    run = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=said, stderr=said, **where)
    os.close(said)
    small.wait_for(lambda: small.events("block begins"))
    os.close(heard)
    assert run.wait(240) == 0
    assert not small.plan("capacity")
    small.assert_none_left()


@pytest.mark.fault("`kill -9` of the process that measures on a lane, in a block", f"the last line says so; {KEPT}")
def test_a_killed_lane_process_costs_its_block(small: Box) -> None:
    run = small.spawn("capacity")
    small.wait_for(lambda: len(small.events("block begins")) >= 2)
    (victim,) = [pid for pid, line in small.living().items() if "quantbench.lane_process one" in line]
    os.kill(victim, signal.SIGKILL)
    assert run.wait(100) != 0
    last = small.out.read_text().partition("the run is not finished")[2]
    assert "the process that measures on lane one, or the one that writes, ended" in last
    small.assert_none_left()
    small.forget_events()
    small.run("capacity")
    assert len(small.events("block begins")) <= 3
    assert small.results("cells/*/chat/*.csv") == ONE_CELL_EACH
    small.assert_none_left()


OPEN = """
ROUND = 2


def next_round(verdict, measured, seconds_left, seconds_per_round):
    return {key: 2 for key, n in measured.items() if n < 5 and seconds_per_round[key] <= seconds_left}


def asked(verdict):
    return [row for row in verdict.rows if row.metric == "throughput_tok_s"]
"""
"""In place of `judge.rounds`: all answers are open until there are five blocks, whatever they say."""


@pytest.fixture
def undecided(small: Box) -> Box:
    """One cell, one block of each model planned, four more of each to come."""
    (small.path / "workflow/quantbench/judge/rounds.py").write_text(OPEN)
    small.configure(blocks=1, budget="20 min")
    return small


def numbers(box: Box, cell: str = "chat/c4_t16") -> dict[str, list[int]]:
    """The blocks of a cell that were measured, by model, in order."""
    places = [(event["model"], *event["cell"].rsplit("/b", 1)) for event in box.events("block begins")]
    begun = [(model, int(number)) for model, where, number in places if where == cell]
    return {model: [n for name, n in begun if name == model] for model, _ in begun}


def test_further_blocks_are_measured_until_nothing_is_open_and_stay_part_of_the_cell(undecided: Box) -> None:
    target, *others = CELL.format("alpha", 4), CELL.format("alpha", 2), CELL.format("alpha__aa", 2)
    undecided.run(target, *others)
    assert numbers(undecided) == {"alpha": [1]}, "who names a CSV wants that tuple"
    assert numbers(undecided, "chat/c2_t16") == {"alpha": [1], "alpha__aa": [1]}, "in the grid or not"
    undecided.file("raw/alpha/chat/c2_t16/b1.json").unlink()
    undecided.forget_events()
    printed = undecided.run("capacity")
    assert "then up to 20 min more" in printed
    assert "further blocks per model: 2 of chat/c4_t16" in printed
    assert numbers(undecided) == {"alpha": [2, 3, 4, 5], "beta": [1, 2, 3, 4, 5]}
    assert numbers(undecided, "chat/c2_t16") == {"alpha": [1]}, "measured in its turn, before the further ones"
    order = [event["model"] for event in undecided.events("block begins")][2:]
    assert order == ["beta", "alpha", "alpha", "beta"] * 2, "interleaved as if they had been planned"
    assert sorted(undecided.started()) == ["alpha", "beta"], "once per run"
    told = json.loads(undecided.file("further.json").read_text())
    assert (told["blocks"], told["answers"]) == ({"chat/c4_t16": 4}, 1)
    assert 0 < told["spent_s"] < told["budget_s"] == 1200
    for path in ONE_CELL_EACH:
        with (undecided.path / path).open() as table:
            row = next(csv.DictReader(table))
            assert int(row["blocks"]) + int(row["blocks_invalid"]) == 5, "a busy machine may have some refused"
    assert not undecided.plan("capacity", target)
    undecided.configure(budget="none")
    assert not undecided.plan("capacity"), "what was measured stays, whatever the budget is now"
    undecided.assert_none_left()


@pytest.mark.fault("`kill -9` of snakemake while it adds further blocks", f"what is left of the budget is used; {KEPT}")
def test_a_run_that_was_killed_while_it_added_blocks_goes_on_with_what_is_left_of_its_budget(undecided: Box) -> None:
    run = undecided.spawn("capacity")
    undecided.wait_for(lambda: len(undecided.events("block begins")) >= 5)
    os.kill(run.pid, signal.SIGKILL)
    run.wait(60)
    undecided.assert_none_left()
    kept = undecided.results("raw/*/chat/*/b*.json")
    assert len(kept) >= 4
    undecided.run("capacity")
    assert set(kept) <= set(undecided.results("raw/*/chat/*/b*.json"))
    most = {max(some) for some in numbers(undecided).values()}
    assert most in ({5}, {6}), "rounds of two, from what the killed one has left"
    assert json.loads(undecided.file("further.json").read_text())["blocks"] == {"chat/c4_t16": max(most) - 1}
    assert not undecided.plan("capacity")
    undecided.assert_none_left()


CANNOT_START: dict[str, tuple[dict[str, Any], str]] = {
    "wrong_flag": (misbehave(fail="vllm serve: error: unrecognized arguments: --wrong-flag"), "--wrong-flag"),
    "no_memory": (misbehave(fail="torch.OutOfMemoryError: CUDA out of memory."), "memory"),
    "not_cached": ({"source": "someone/not-in-the-cache"}, "hf download someone/not-in-the-cache"),
    "taken_port": ({}, "port {port}"),
}
"""Models that cannot be served: what is wrong with them, and what the error says."""


def error_of(box: Box, model: str) -> str:
    """Why a server did not start."""
    return (box.path / f"logs/{GPU}/start_server/{model}.log").read_text()


@pytest.mark.fault("a flag that the engine does not know", "cause, remedy and log last on the screen; others go on")
@pytest.mark.fault("the engine runs out of memory at its start", "the same")
@pytest.mark.fault(
    "a hub model that is not in the cache", "the same, with the `hf download` line; nothing is loaded unasked"
)
@pytest.mark.fault("a port that somebody else has", "the same, with the process that has it")
def test_servers_that_cannot_start_name_cause_log_and_remedy(fresh: Box) -> None:
    ports = dict(zip(CANNOT_START, free_ports(len(CANNOT_START)), strict=True))
    beta = fresh.config["models"]["beta"]
    broken = {name: beta | {"port": ports[name]} | change for name, (change, _) in CANNOT_START.items()}
    fresh.configure(models=broken, select=["alpha", *CANNOT_START])
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", ports["taken_port"]))
        somebody.listen()
        printed = fresh.run("capacity", options=["--keep-going"], ok=False)
    for name, (_, words) in CANNOT_START.items():
        error = error_of(fresh, name)
        for part in (name, words.format(port=ports[name]), "remedy"):
            assert part in error
        assert error.strip().splitlines()[0] in printed
    last = printed.rpartition("quantbench: the run is not finished; ")[2]
    assert "What failed (and 1 more, see logs/)" in last
    assert last.count("remedy:") == 3, last
    assert not set(last.splitlines()[1:]) - set("\n".join(error_of(fresh, name) for name in CANNOT_START).splitlines())
    assert fresh.results("cells/*/chat/*.csv") == CELLS[:2], "the sound model completes"
    fresh.assert_none_left()
    fresh.config["models"]["wrong_flag"] = beta | {"port": ports["wrong_flag"]}
    fresh.configure(select=["alpha", "wrong_flag"])
    fresh.run("capacity")
    assert len(fresh.results("cells/wrong_flag/chat/*.csv")) == 2, "and so does the other, once it is mended"


@pytest.mark.fault(
    "streams with an error event, cut off, HTTP 500, without end", "counted by reason; the row is invalid"
)
def test_failed_requests_invalidate_the_cell_and_are_counted(fresh: Box) -> None:
    faults = {"error": "in_band_error", "truncate": "truncated", "http_500": "http_5xx", "hang": "timeout"}
    beta = misbehave(stream=["ok", *faults], after=4)
    fresh.configure(models={"beta": beta}, block={"timeout_s": 2, "min_requests_per_slot": 5}, blocks=1)
    fresh.run(CELL.format("beta", 4))
    row = next(csv.DictReader((fresh.path / CELL.format("beta", 4)).open()))
    assert row["valid"] == "false"
    assert "failed_requests" in row["reasons"]
    failed = pl.read_parquet(fresh.file("raw/beta/chat/c4_t16/b1.parquet")).filter(~pl.col("ok"))
    assert set(failed["reason"]) == set(faults.values())
    assert int(row["failures"]) == failed.height


def no_disk(box: Box) -> None:
    (box.path / "results").mkdir()
    box.file("").symlink_to(box.path / "a disk that is not mounted")


def elsewhere(box: Box) -> None:
    (box.path / "elsewhere").mkdir()


def broken(name: str, text: str) -> Callable[[Box], None]:
    def write(box: Box) -> None:
        box.file(name).parent.mkdir(parents=True)
        box.file(name).write_text(text)

    return write


def open_state(box: Box) -> None:
    box.state.mkdir()
    box.state.chmod(0o777)


NO_KEY = config(workloads={"chat": {"concurency": [3]}})
NO_MODEL = config(models={"beta": {"source": "models/missing"}})
REFUSED: dict[str, tuple[Callable[[Box], None], list[str]]] = {
    "unknown key 'workloads.chat.concurency' (did you mean 'concurrency'": (NO_KEY, []),
    "models.beta.source: 'models/missing' is neither a folder": (NO_MODEL, []),
    f"results/{GPU}/writable cannot be written": (no_disk, ["capacity"]),
    "servers/lanes.json is damaged: Expected `object`, got `array`": (broken("servers/lanes.json", "[]"), ["capacity"]),
    "alpha/ready.json is damaged: Object missing": (broken("servers/alpha/ready.json", "{}"), ["capacity"]),
    "{path}/state is not used: others may write to it": (open_state, ["capacity"]),
    "cd {path}": (elsewhere, ["capacity", "--directory", "elsewhere"]),
    "'gamma' is not selected (alpha, alpha__aa, beta)": (lambda _: None, [CELL.format("gamma", 1)]),
}
"""What cannot be run: the words of the error, what is wrong, and what is asked for."""


@pytest.mark.fault("a key or a model that does not exist, a tuple that is not selected", "one line, before any server")
@pytest.mark.fault("results on a disk that is not mounted; a run from another folder", "one line, before any server")
@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_run_is_one_line_before_any_server(fresh: Box, words: str) -> None:
    change, arguments = REFUSED[words]
    change(fresh)
    printed = fresh.run(*arguments[:1], options=arguments[1:], ok=False)
    assert words.format(path=fresh.path) in printed
    assert "Traceback" not in printed
    assert "MissingRule" not in printed
    assert not fresh.started()
    assert not fresh.living()


@pytest.mark.fault(
    "a secret on the command line (--config)",
    "one line before any server, with key and remedy; no file that quantbench or snakemake writes holds it",
)
def test_a_secret_in_the_configuration_is_refused_and_written_nowhere(fresh: Box) -> None:
    fresh.profile += [f"server={{env: {{MY_SETTING: {PLANTED}}}, args: [--api_ke, {PLANTED}]}}"]
    printed = fresh.run(ok=False) + fresh.run(options=["--dry-run"], ok=False)
    assert "config: server.env holds MY_SETTING, which looks like a secret" in printed
    assert "remedy: leave it out" in printed
    assert "Traceback" not in printed
    assert PLANTED not in printed
    assert files_with(fresh, PLANTED) == []
    assert not fresh.living()
