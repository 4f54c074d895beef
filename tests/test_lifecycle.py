"""Life cycle under real snakemake with stand-in servers (tests/fake_vllm.py): each test proves one promise."""

from __future__ import annotations

import copy
import csv
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from box import GPU, ROOT, Box, free_ports, jobs
from servers import no_tensors

FAKE = [sys.executable, str(ROOT / "tests" / "fake_vllm.py")]
CELL = f"results/{GPU}/cells/{{}}/chat/c{{}}_t16.csv"
CELLS = sorted(CELL.format(model, c) for model in ("alpha", "beta") for c in (1, 4))

ONE_CELL_EACH = [CELL.format(model, 4) for model in ("alpha", "beta")]


def misbehave(**rules: object) -> dict[str, object]:
    """Model settings that make its stand-in server misbehave; see tests/fake_vllm.py."""
    return {"server": {"env": {"FAKE_VLLM": json.dumps(rules)}}}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A finished run; tests take copies of it."""
    box = Box(tmp_path_factory.mktemp("template") / "box", FAKE)
    box.run("capacity")
    box.assert_none_left()
    yield box
    box.clean_up()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "box", FAKE)
    yield box
    box.clean_up()


@pytest.fixture
def small(fresh: Box) -> Box:
    """One cell, four blocks: A B B A."""
    fresh.config["workloads"]["chat"]["concurrency"] = [4]
    fresh.save()
    return fresh


@pytest.fixture
def done(template: Box, tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "box", FAKE)
    box.config = copy.deepcopy(template.config)
    box.save()
    for part in ("results", ".snakemake", "config", "models", "workflow", "rules", "data"):
        shutil.rmtree(box.path / part, ignore_errors=True)
        shutil.copytree(template.path / part, box.path / part, copy_function=shutil.copy2)
    shutil.copy2(template.path / "Snakefile", box.path / "Snakefile")
    box.forget_events()
    yield box
    box.clean_up()


def test_a_run_builds_every_tuple_and_a_second_one_has_nothing_to_do(template: Box) -> None:
    assert template.results("cells/*/chat/*.csv") == CELLS
    assert sorted(template.started()) == ["alpha", "beta"], "one start each"
    assert "Nothing to be done" in template.run("capacity")
    assert len(template.started()) == 2


def test_blocks_of_a_lane_are_interleaved(template: Box) -> None:
    order = [(e["model"], e["cell"].rpartition("/")[0]) for e in template.events("block begins")]
    for cell in {cell for _, cell in order}:
        assert [model for model, c in order if c == cell] == ["alpha", "beta", "beta", "alpha"]


def test_a_deleted_csv_is_rebuilt_from_kept_blocks_without_a_server(done: Box) -> None:
    path = done.path / CELLS[0]
    before = path.read_text()
    path.unlink()
    assert jobs(done.run("capacity")) == {"summarize_tuple": 1, "capacity": 1}
    assert path.read_text() == before
    assert not done.started()


@pytest.mark.parametrize("how", ["force", "blocks gone"])
def test_one_csv_again_starts_only_its_server(done: Box, how: str) -> None:
    target = CELL.format("beta", 4)
    if how == "force":
        printed = done.run(target, options=["--forcerun", "measure_block"])
    else:
        (done.path / target).unlink()
        shutil.rmtree(done.path / f"results/{GPU}/raw/beta/chat/c4_t16")
        printed = done.run(target)
    assert jobs(printed)["measure_block"] == 2
    assert "start_server" not in jobs(printed)
    assert done.started() == ["beta"]
    done.assert_none_left()


def test_one_csv_on_a_fresh_clone_starts_only_its_server(fresh: Box) -> None:
    target = f"results/{GPU}/cells/beta/chat/c2_t8.csv"  # not in the grid
    printed = fresh.run(target)
    assert jobs(printed)["measure_block"] == 2
    assert fresh.started() == ["beta"]
    assert fresh.results("cells/*/chat/*.csv") == [target]
    fresh.assert_none_left()


def test_changes_of_the_config_rerun_what_depends_on_them(done: Box) -> None:
    done.config["cost"]["hourly_price"] = 9.0
    done.save()
    assert "Nothing to be done" in done.run("capacity")
    done.config["workloads"]["chat"]["concurrency"] = [1, 2, 4]
    done.save()
    printed = jobs(done.run("capacity", options=["--dry-run"]))
    assert (printed["measure_block"], printed["summarize_tuple"]) == (4, 2)
    done.config["workloads"]["chat"]["concurrency"] = [1, 4]
    done.config["blocks"] = 3
    done.save()
    printed = jobs(done.run("capacity", options=["--dry-run"]))
    assert (printed["measure_block"], printed["summarize_tuple"]) == (4, 4)
    done.config["blocks"] = 2
    done.config["models"]["beta"]["server"] = {"max_num_seqs": 32}
    done.save()
    printed = jobs(done.run("capacity"))
    assert (printed["start_server"], printed["measure_block"]) == (1, 4)
    assert done.started() == ["beta"]


def test_following_a_remedy_measures_nothing_again(done: Box) -> None:
    done.config["models"]["alpha"]["port"] = free_ports(1)[0]
    done.config["server"]["start_timeout_s"] = 61
    done.config["lanes"]["uno"] = done.config["lanes"].pop("one")
    for model in ("alpha", "beta"):
        done.config["models"][model]["lane"] = "uno"
    done.save()
    assert "Nothing to be done" in done.run("capacity", options=["--dry-run"])
    done.run(CELL.format("alpha", 2))
    log = (done.path / f"results/{GPU}/servers/alpha/server.log").read_text()
    assert f"--port {done.config['models']['alpha']['port']} " in log, "a server that is needed is at the new port"


def test_another_model_under_the_same_name_is_measured_again(done: Box) -> None:
    assert "Nothing to be done" in done.run("capacity", options=["--dry-run"])
    (done.path / "models/beta/config.json").write_text('{"model_type": "fake", "other": 1}')
    printed = jobs(done.run("capacity", options=["--dry-run"]))
    assert (printed["start_server"], printed["measure_block"]) == (1, 4), "beta only"


def test_start_up_is_measured_when_asked_for_and_measures_nothing_else_again(done: Box) -> None:
    done.config["startup_rounds"] = 1
    done.save()
    assert "Nothing to be done" in done.run("capacity")
    printed = jobs(done.run(f"results/{GPU}/startup.csv"))
    assert printed == {"measure_startup": 2, "tabulate_startup": 1}
    with (done.path / f"results/{GPU}/startup.csv").open() as table:
        rows = [(row["model"], row["source"], row["compile_cache"], row["starts"]) for row in csv.DictReader(table)]
    eager = [(m, source, "off", n) for m in ("alpha", "beta") for source, n in (("run", "1"), ("startup_rounds", "2"))]
    assert rows == eager
    assert sorted(done.started()) == ["alpha", "alpha", "beta", "beta"]
    done.assert_none_left()


def test_a_git_checkout_measures_nothing_again(done: Box) -> None:
    for path in [*done.path.glob("workflow/**/*.py"), *done.path.glob("rules/*"), done.path / "Snakefile"]:
        path.touch()
    (done.path / "config/prompts/chat.jsonl").touch()
    assert "Nothing to be done" in done.run("capacity")


def finish_without_running(box: Box, *targets: str) -> None:
    """Put empty files where results are not made yet, and have snakemake take them as made."""
    table = box.run(*targets, options=["--summary"]).partition("output_file\t")[2]
    for line in table.splitlines()[1:]:
        path = box.path / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    box.run(*targets, options=["--touch", "--forceall"], ok=None)  # not good: its last words are of decision.json


def test_new_judgement_remakes_tables_and_pages_and_measures_nothing(done: Box) -> None:
    """Blocks are measured; the results that no dry run reads are empty files."""
    done.config["quality"]["prompts"] = "config/prompts/quality.jsonl"
    for name in ("alpha", "beta"):  # only of real weights are answers asked
        done.config["models"][name].pop("load_format")
        (done.path / f"models/{name}/model.safetensors").write_bytes(no_tensors(64))
    done.save()
    finish_without_running(done)

    def remade(*changed: str) -> set[str]:
        """The rules of a dry run after a change of these files, which is taken back."""
        before = {done.path / "workflow" / name: (done.path / "workflow" / name).read_bytes() for name in changed}
        for path, content in before.items():
            path.write_bytes(content + b"\n")
        printed = done.run(options=["--dry-run"])
        for path, content in before.items():
            path.write_bytes(content)
        return set(jobs(printed)) - {"all"}

    judged = remade("quantbench/judge/verdict.py")
    assert not judged & {"measure_block", "generate_answers", "start_server", "stop_server", "calibrate_client"}
    assert {"summarize_tuple", "compare_models", "score_quality", "price_tokens", "write_report"} <= judged
    for path in ("quantbench/quality/score.py", "quantbench/report/pages.py", "templates/report.html.j2"):
        assert remade(path) == judged, path
    assert remade("quantbench/client/load.py", "quantbench/serving/lane.py", "scripts/measure_block.py") == set()


def test_two_profiles_may_make_different_models_of_one_name(fresh: Box) -> None:
    def nothing_to_do(gpu: str, scheme: str, *, make: bool = False) -> bool:
        fresh.gpu = fresh.config["gpu"] = gpu
        fresh.config["models"]["int8"] = {"quantize": {"from": "alpha", "scheme": scheme}, "port": 8000}
        fresh.config["select"] = ["alpha", "int8"]
        fresh.save()
        target = f"models/{gpu}/int8/provenance.json"
        if make:
            finish_without_running(fresh, target)
        return "Nothing to be done" in fresh.run(target, options=["--dry-run"])

    assert not nothing_to_do("small", "W8A8")
    assert nothing_to_do("small", "W8A8", make=True)
    assert nothing_to_do("large", "FP8_DYNAMIC", make=True)
    assert nothing_to_do("small", "W8A8")
    assert nothing_to_do("large", "FP8_DYNAMIC")


def test_many_cores_never_measure_two_cells_of_a_lane_at_once(fresh: Box) -> None:
    fresh.config["select"] = ["alpha", "beta", "gamma"]
    fresh.config["blocks"] = 1
    fresh.save()
    fresh.run("capacity", cores=8)
    spans: dict[str, list[tuple[float, float]]] = {}
    begun: dict[tuple[str, str], float] = {}
    for event in fresh.events():
        if event["event"] == "block begins":
            begun[event["lane"], event["model"]] = event["t"]
        elif event["event"] == "block ends":
            spans.setdefault(event["lane"], []).append((begun[event["lane"], event["model"]], event["t"]))
    assert {lane: len(s) for lane, s in spans.items()} == {"one": 4, "two": 2}
    for lane_spans in spans.values():
        ordered = sorted(lane_spans)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered))
    fresh.assert_none_left()


def test_two_runs_at_once_wait_for_each_other(fresh: Box, tmp_path: Path) -> None:
    other = Box(tmp_path / "other", FAKE)
    other.state = fresh.state  # one machine, two folders
    first = fresh.spawn(CELL.format("alpha", 1))
    fresh.wait_for(lambda: fresh.events("block begins"))
    os.killpg(first.pid, signal.SIGSTOP)  # until both others are there
    same_folder = fresh.spawn(CELL.format("beta", 1))
    other_folder = other.spawn(CELL.format("alpha", 1))
    fresh.wait_for(lambda: "waiting for the run" in (fresh.path / "out.txt").read_text())
    other.wait_for(lambda: "another run" in (other.path / "out.txt").read_text())
    os.killpg(first.pid, signal.SIGCONT)
    for run in (first, same_folder, other_folder):
        assert run.wait(180) == 0, (fresh.path / "out.txt").read_text()[-3000:]
    assert len(fresh.results("cells/*/chat/*.csv")) == 2
    assert len(fresh.events("start")) == 2, "nobody's server was taken away"
    spans = [(events[0]["t"], events[-1]["t"]) for events in (fresh.events(), other.events())]
    assert spans[1][0] >= fresh.events("block ends")[0]["t"]
    fresh.assert_none_left()


@pytest.mark.parametrize(
    ("number", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)]
)
def test_an_ended_run_leaves_nothing_and_the_next_completes(small: Box, number: signal.Signals, to_group: bool) -> None:
    run = small.spawn("capacity")
    # When the third block has begun, the jobs of the first two are over.
    small.wait_for(lambda: len(small.events("block begins")) >= 3)
    finished = sorted(small.results("raw/*/chat/*/b*.json"))
    assert len(finished) >= 2
    (os.killpg if to_group else os.kill)(run.pid, number)
    assert run.wait(60) != 0
    small.assert_none_left()
    assert set(finished) <= set(small.results("raw/*/chat/*/b*.json")), "finished blocks are kept"
    printed = small.run("capacity")
    assert jobs(printed)["measure_block"] <= 4 - len(finished)
    assert small.results("cells/*/chat/*.csv") == ONE_CELL_EACH
    small.assert_none_left()


@pytest.mark.parametrize("when", ["block begins", "block ends"])
def test_a_killed_server_costs_one_block_at_most(small: Box, when: str) -> None:
    run = small.spawn("capacity")
    small.wait_for(lambda: small.events(when))
    model = small.events(when)[0]["model"]
    victims = [pid for pid, line in small.living().items() if f"--served-model-name {model} " in line + " "]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert victims
    run.wait(180)
    if run.returncode:
        small.run("capacity")
    assert small.results("cells/*/chat/*.csv") == ONE_CELL_EACH
    assert small.started().count(model) >= 2
    small.assert_none_left()


CANNOT_START: dict[str, tuple[dict[str, object], str]] = {
    "wrong_flag": (misbehave(fail="vllm serve: error: unrecognized arguments: --wrong-flag"), "--wrong-flag"),
    "no_memory": (misbehave(fail="torch.OutOfMemoryError: CUDA out of memory."), "memory"),
    "not_cached": ({"source": "someone/not-in-the-cache"}, "hf download someone/not-in-the-cache"),
}
"""Models that cannot be served: what is wrong with them, and what the error says."""


def test_servers_that_cannot_start_name_cause_log_and_remedy(fresh: Box) -> None:
    models = fresh.config["models"]
    for (name, (change, _)), port in zip(CANNOT_START.items(), free_ports(len(CANNOT_START)), strict=True):
        models[name] = models["beta"] | {"port": port} | change
    fresh.config["select"] = ["alpha", *CANNOT_START]
    fresh.save()
    printed = fresh.run("capacity", options=["--keep-going"], ok=False)
    for name, (_, words) in CANNOT_START.items():
        error = (fresh.path / f"logs/{GPU}/start_server/{name}.log").read_text()
        assert name in error
        assert words in error
        assert "remedy" in error
        assert error.strip().splitlines()[0] in printed
    assert len(fresh.results("cells/alpha/chat/*.csv")) == 2, "the sound model completes"
    assert len(fresh.results("cells/*/chat/*.csv")) == 2
    fresh.assert_none_left()
    models["wrong_flag"] = models["beta"] | {"port": models["wrong_flag"]["port"]}
    fresh.config["select"] = ["alpha", "wrong_flag"]
    fresh.save()
    fresh.run("capacity")
    assert len(fresh.results("cells/wrong_flag/chat/*.csv")) == 2, "and so does the other, once it is mended"


def test_a_taken_port_is_named(fresh: Box) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", fresh.config["models"]["alpha"]["port"]))
        sock.listen()
        printed = fresh.run(CELL.format("alpha", 1), ok=False)
    assert f"port {fresh.config['models']['alpha']['port']}" in printed
    assert "remedy" in printed


def test_failed_requests_invalidate_the_cell_and_are_counted(fresh: Box) -> None:
    faults = {"error": "in_band_error", "truncate": "truncated", "http_500": "http_5xx", "hang": "timeout"}
    fresh.config["models"]["beta"] |= misbehave(stream=["ok", *faults], after=4)
    fresh.config["block"] |= {"timeout_s": 2, "min_requests_per_slot": 5}
    fresh.config["blocks"] = 1
    fresh.save()
    fresh.run(CELL.format("beta", 4))
    row = next(csv.DictReader((fresh.path / CELL.format("beta", 4)).open()))
    assert row["valid"] == "false"
    assert "failed_requests" in row["reasons"]
    records = pl.read_parquet(fresh.path / f"results/{GPU}/raw/beta/chat/c4_t16/b1.parquet")
    assert set(records.filter(~pl.col("ok"))["reason"]) == set(faults.values())
    assert int(row["failures"]) == records.filter(~pl.col("ok")).height


@pytest.mark.parametrize(
    ("where", "change", "words"),
    [
        (("workloads", "chat"), {"concurency": [3]}, "unknown key 'workloads.chat.concurency' (did you mean 'concurr"),
        (("models", "beta"), {"source": "models/missing"}, "models.beta.source: 'models/missing' is neither a folder"),
        (("workloads", "chat"), {"template": "Sum up"}, "workloads.chat (config/prompts/chat.jsonl): the template has"),
        (("models", "beta"), {"endpoint": "http://127.0.0.1/v1/completions"}, "says too much"),
    ],
)
def test_a_bad_config_is_one_line_before_any_server(
    fresh: Box, where: tuple[str, str], change: dict[str, object], words: str
) -> None:
    fresh.config[where[0]][where[1]] |= change
    fresh.save()
    began = time.monotonic()
    printed = fresh.run(ok=False)
    assert words in printed
    assert not fresh.started()
    assert "Traceback" not in printed
    assert time.monotonic() - began < 60


def test_a_csv_that_cannot_be_measured_is_named_before_the_plan(fresh: Box) -> None:
    printed = fresh.run(CELL.format("gamma", 1), ok=False)
    assert "'gamma' is not selected (alpha, alpha__aa, beta)" in printed
    assert "MissingRule" not in printed


@pytest.mark.parametrize("text", ["gpu: x\n\tblocks: 2\n", "blocks: 2\nblocks: 3\n"])
def test_a_config_file_that_is_not_as_it_looks_is_named_with_its_line(fresh: Box, text: str) -> None:
    (fresh.path / "config/config.yaml").write_text(text)
    printed = fresh.run(ok=False)
    assert "config/config.yaml is not valid YAML" in printed
    assert "line 2" in printed


def test_a_run_in_another_folder_names_its_own(fresh: Box) -> None:
    (fresh.path / "elsewhere").mkdir()
    printed = fresh.run("capacity", options=["--directory", "elsewhere"], ok=False)
    assert f"cd {fresh.path}" in printed


def test_a_damaged_block_is_named_and_measured_again_when_deleted(done: Box) -> None:
    stem = f"results/{GPU}/raw/alpha/chat/c4_t16/b1"
    (done.path / f"{stem}.json").write_text("{")
    printed = done.run("capacity", ok=False)
    assert f"{stem}.json is damaged" in printed
    (done.path / f"{stem}.json").unlink()
    assert jobs(done.run("capacity")) == {"measure_block": 1, "summarize_tuple": 1, "capacity": 1}


def test_results_that_cannot_be_written_are_said_before_the_first_job(fresh: Box) -> None:
    (fresh.path / "results").mkdir()
    (fresh.path / f"results/{GPU}").symlink_to(fresh.path / "a disk that is not mounted")
    printed = fresh.run("capacity", ok=False)
    assert f"results/{GPU}/writable cannot be written" in printed
    assert "remedy" in printed
    assert not fresh.living()


def test_refine_adds_blocks_until_the_precision_or_the_most_blocks(done: Box) -> None:
    done.config["refine"] = {"max_blocks": 4, "budget_minutes": 60}
    done.config["workloads"]["chat"]["concurrency"] = [4]
    done.save()
    line = [sys.executable, "-m", "quantbench", "refine", "--precision", "0.000001"]
    environment = done.environment() | {"PYTHONPATH": str(done.path / "workflow")}
    (done.path / "mine.yaml").write_text(f"gpu: {GPU}\n")
    line += ["--configfile", "mine.yaml", "--config", "margin=0.05"]
    ran = subprocess.run(
        line, cwd=done.path, env=environment, text=True, timeout=done.timeout, capture_output=True, check=False
    )
    assert "refine: adding 2 blocks of chat/c4_t16" in ran.stderr or "refine: adding 1 blocks" in ran.stderr, (
        ran.stderr[-3000:]
    )
    assert ran.returncode == 1, "a millionth cannot be reached"
    # On a machine so busy that guards refuse the blocks, that is said instead.
    assert "still wider than" in ran.stderr or "refused by guards" in ran.stderr
    finished = done.results("raw/*/chat/c4_t16/b*.json")
    assert len(finished) == 2 * 4, "four blocks of each model, no more"
    assert "Nothing to be done" in done.run("capacity"), "what was added stays part of the cell"


def test_blocks_whose_files_are_deleted_are_measured_again_and_nothing_else(done: Box) -> None:
    """The remedy that notes.md has for refused blocks."""
    for model in ("alpha", "beta"):
        for path in (done.path / f"results/{GPU}/raw/{model}/chat/c4_t16").glob("b2.*"):
            path.unlink()
    printed = done.run("capacity")
    assert jobs(printed)["measure_block"] == 2
    assert jobs(printed)["summarize_tuple"] == 2
    assert len(done.results("raw/*/chat/c4_t16/b2.json")) == 2


def test_pages_print_the_line_that_repeats_the_run_and_do_not_depend_on_it(done: Box) -> None:
    (done.path / "mine.yaml").write_text("precision: 0.5\n")
    page = f"results/{GPU}/report/decision.md"
    given = ["--configfile", "mine.yaml", "--config", f"gpu={GPU}", "margin=0.05"]

    def run(*more: str) -> str:
        line = [sys.executable, "-m", "snakemake", "--cores", "1", *given, *more, "--", page]
        where = {"cwd": done.path, "env": done.environment()}
        ran = subprocess.run(line, **where, text=True, timeout=done.timeout, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    run()
    assert f"snakemake --cores 1 {shlex.join(given)}\n" in (done.path / page).read_text()
    given.append("refine={'budget_minutes': 7}")
    assert "Nothing to be done" in run("--dry-run"), "how it was asked for is no reason to make anything again"
