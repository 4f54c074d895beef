"""A fleet file, the folder of a comparison, its last words, and the rows of the joined table."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fleets
import numpy as np
import psutil
import pytest
import yaml
from msgspec.structs import replace
from quantbench.errors import QuantbenchError
from quantbench.fleet import comparisons, folder, inner, joined, table
from quantbench.quality import made_models
from quantbench.records.base import read, write
from quantbench.records.fleet import Done, Joined, Resources
from quantbench.records.run import Run
from quantbench.records.server import Provenance
from quantbench.report import fleet as pages
from quantbench.report import render
from quantbench.results import columns_of, read_rows, write_rows
from quantbench.serving import owner, processes
from report_fixture import Scenario, facts
from source import ROOT

OWN = {
    "gpu": "mine",
    "models": {"bf16": {"source": "my/bf16"}, "int8": {"source": "my/int8", "quantization": "compressed-tensors"}},
}
WIDER = {"gpu": "cpu", "models": {"int4": {"quantize": {"group_size": 32}}}}
DEMO: dict[str, Any] = {"config": {"gpu": "cpu"}}


def fleet_of(tmp_path: Path, text: Any, **values: Any) -> comparisons.Fleet:
    """The checked fleet of a file with this content."""
    path = tmp_path / "fleet.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    fleet = comparisons.load(ROOT, [path], values)
    comparisons.check(fleet)
    return fleet


def test_a_comparison_has_files_overrides_and_resources(tmp_path: Path) -> None:
    entry = {"configfiles": ["config/gpus/h100-80gb.yaml"], "config": {"blocks": 8}, "resources": {"gpus": 1}}
    fleet = fleet_of(tmp_path, {"fleet": "f", "comparisons": {"h100": entry, "mine": {"config": OWN}}})
    assert fleet.plan("h100").gpu == "h100-80gb"
    assert fleet.plan("h100").config["blocks"] == 8
    assert list(fleet.plan("mine").models) == ["bf16", "int8"]
    assert fleet.entries["h100"].resources == Resources(gpus=1)
    files = ("config/gpus/h100-80gb.yaml", "comparison.yaml")
    assert fleet.command("h100") == ("snakemake", "--cores", "1", "--configfile", *files)
    assert fleet.shown("h100") == "fleets/f/h100"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"comparisons": {"a": DEMO}}, r"missing key 'fleet'"),
        ({"fleet": "f", "comparisons": {}}, "comparisons: .* is empty"),
        ({"fleet": "f", "comparisons": {"joined": DEMO}}, "'joined' is not allowed"),
        ({"fleet": "../f", "comparisons": {"a": DEMO}}, "fleet: '../f' is not allowed"),
        ({"fleet": "f", "comparisons": {"a": DEMO | {"resource": {}}}}, "unknown key 'comparisons.a.resource'"),
        ({"fleet": "f", "comparisons": {"a": DEMO | {"resources": {"gpus": 0}}}}, "a.resources.gpus: 0 must be >= 1"),
        ("fleet: f\ncomparisons: {a: {}, a: {}}", "'a' stands here twice"),
        ({"fleet": "f", "comparisons": {"a": {"configfiles": ["no.yaml"]}}}, "comparisons.a: .*no.yaml cannot be read"),
        ({"fleet": "f", "comparisons": {"a": {}}}, "comparisons.a: config.gpu is not said"),
        ({"fleet": "f", "comparisons": {"a": {"config": {"gpu": "cpu", "blocsk": 3}}}}, "comparisons.a: .*'blocsk'"),
        ({"fleet": "f", "comparisons": {"a": DEMO}, "keys": ["NO_SUCH_KEY"]}, "NO_SUCH_KEY, which this shell"),
        ({"fleet": "f", "comparisons": {"a": DEMO, "b": {"config": WIDER}}},
         "comparisons.a and comparisons.b make models/cpu/.* in two ways"),
        ({"fleet": "f", "comparisons": {"a": {"config": OWN | {"server": {"env": {"HF_TOKEN": "hf_" + "x1" * 10}}}}}},
         "comparisons.a: .*HF_TOKEN"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key_before_anything_starts(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(QuantbenchError, match=said) as raised:
        fleet_of(tmp_path, content)
    assert raised.value.remedy
    assert "hf_" not in str(raised.value)


def test_what_a_comparison_asks_is_read_before_anything_starts(tmp_path: Path) -> None:
    items = tmp_path / "asked.jsonl"
    items.write_text('{"prompt": "Two and two?"}\n{"nothing": "asked"}\n')
    asks = {"config": {"gpu": "cpu", "workloads": {"chat": {"prompts": str(items)}}}}
    with pytest.raises(QuantbenchError, match=r"comparisons\.b: config: workloads\.chat\.prompts") as raised:
        fleet_of(tmp_path, {"fleet": "f", "comparisons": {"a": DEMO, "b": asks}})
    assert "line 2" in str(raised.value)


def test_without_a_fleet_file_the_option_is_named() -> None:
    with pytest.raises(QuantbenchError, match=r"--configfile fleet\.yaml"):
        comparisons.load(ROOT, [], {})


def test_what_defines_a_comparison_changes_with_it_and_with_nothing_else(tmp_path: Path) -> None:
    def definitions(**changes: Any) -> list[str]:
        entries = {"a": {"config": {"gpu": "cpu"}}, "b": {"config": {"gpu": "cpu"} | changes}}
        fleet = fleet_of(tmp_path, {"fleet": "f", "comparisons": entries})
        return [fleet.definition(name) for name in entries]

    first, changed = definitions(), definitions(blocks=9)
    assert first[0] == first[1] == changed[0] != changed[1]


def test_a_folder_is_the_project_by_links_with_results_of_its_own(tmp_path: Path) -> None:
    root, place = tmp_path / "project", tmp_path / "project/fleets/f/a"
    for name in ("workflow", ".venv", ".git", "results", "logs", "old"):
        (root / name).mkdir(parents=True)
    (root / "Snakefile").touch()
    folder.prepare(root, place, {"blocks": 2})
    (place / "results").mkdir()
    (root / "old").rmdir()
    (root / "mine.yaml").touch()
    folder.prepare(root, place, {"blocks": 3})
    links = {path.name for path in place.iterdir() if path.is_symlink()}
    assert links == {"Snakefile", "workflow", "models", ".venv", "mine.yaml"}
    assert (place / "results").is_dir()
    assert yaml.safe_load((place / folder.OVERRIDES).read_text()) == {"blocks": 3}
    assert (place / "models").resolve() == root / "models", "made once for all comparisons"
    assert folder.as_seen_there(root, "mine.yaml") == "mine.yaml"
    assert folder.as_seen_there(root, "results/my.yaml") == str(root / "results/my.yaml")
    assert folder.as_seen_there(root, "../my.yaml") == str(tmp_path / "my.yaml")


def test_a_run_has_the_keys_of_the_shell_and_is_nobodys_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv(owner.OWNER, "host:1:2")
    assert inner.environment()["HF_TOKEN"] == "secret"
    assert owner.OWNER not in inner.environment()


def test_a_run_gets_keys_by_its_environment_and_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-Pl4nt3d")
    shown = "from pathlib import Path\nfor name in ('environ', 'cmdline'):\n"
    shown += "    Path(name).write_bytes(Path(f'/proc/self/{name}').read_bytes())\nrule all:\n"
    (tmp_path / "shown.smk").write_text(shown)
    inner.run(tmp_path, ["snakemake", "--cores", "1", "-s", "shown.smk"])
    assert b"JUDGE_KEY=sk-Pl4nt3d" in (tmp_path / "environ").read_bytes()
    line = (tmp_path / "cmdline").read_bytes()
    assert b"shown.smk" in line
    assert b"sk-Pl4nt3d" not in line


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (None, ""),
        ("", ""),
        ("a\nboom\n\n", "boom"),
        ("quantbench: 12 blocks\n\nquantbench: the run is not finished; 2 of 3.\nno\n  room\n",
         "quantbench: the run is not finished; 2 of 3. no room"),
        ('quantbench: 4 blocks\nWorkflowError in file "/a/common.smk", line 56:\nconfig: p.jsonl: no class\n'
         '  remedy: add one\n  File "/a/common.smk", line 56, in <module>\n',
         "config: p.jsonl: no class remedy: add one"),
    ],
)  # fmt: skip
def test_last_words_are_the_runs_own(tmp_path: Path, printed: str | None, said: str) -> None:
    if printed is not None:
        (tmp_path / folder.LOG).write_text(printed)
    assert inner.last_words_of(tmp_path / folder.LOG) == said


def test_a_run_that_fails_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"is not finished: .*no_such") as raised:
        inner.run(tmp_path, ["snakemake", "--cores", "1", "-s", "no_such.smk"])
    assert str(tmp_path / folder.LOG) in str(raised.value)


def test_every_row_names_its_folder_and_every_blank_its_reason(tmp_path: Path) -> None:
    for whole in (fleets.spring(), fleets.mixed()):
        assert {row.folder for row in whole.rows} == {one.folder for one in whole.done}
        for row in whole.rows:
            said = dict(entry.split(": ", 1) for entry in row.missing)
            figures = row.as_dict()
            assert {name for name in pages.HEADS if figures[name] is None} <= set(said), row
    path = tmp_path / "fleet.csv"
    write_rows(path, fleets.spring().rows, columns_of(table.FleetRow))
    assert read_rows(path, table.FleetRow) == list(fleets.spring().rows)


def test_one_whose_files_are_damaged_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(comparisons.PLACE, str(tmp_path))
    fleet = fleet_of(tmp_path, {"fleet": "f", "comparisons": dict.fromkeys(("cut", "hurt", "well"), DEMO)})
    for name in fleet.entries:
        write(fleet.folder(name) / folder.DONE, fleets.done(name, folder=fleet.shown(name)))
    (fleet.folder("cut") / folder.DONE).write_text("{")

    def run_of(_: comparisons.Fleet, done: Done) -> Run:
        if done.comparison == "hurt":
            raise QuantbenchError("results/cpu/memory.csv is damaged")
        return facts(Scenario())

    monkeypatch.setattr(joined, "run_of", run_of)
    joined.write(fleet)
    told = read(fleet.folder("joined") / "fleet.json", Joined)
    assert [one.comparison for one in told.done] == ["well"]
    assert {row.comparison for row in told.rows} == {"well"}
    assert {one.comparison: "cannot be read" in one.last_words for one in told.missing} == {"cut": True, "hurt": True}
    assert "memory.csv is damaged" in (fleet.folder("joined") / "fleet.md").read_text()
    with pytest.raises(QuantbenchError, match=r"comparisons\.cut: .*done\.json"):
        joined.need_all(fleet)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    for pareto in pages.paretos(fleets.spring()):
        assert (pareto.by, pareto.against) == ("cost", "quality")
        for point in pareto.points:
            beaten = any(p.x <= point.x and p.y <= point.y and (p.x, p.y) != (point.x, point.y) for p in pareto.points)
            assert point.best is not beaten


def test_the_page_says_what_to_do_and_what_must_not_be_compared() -> None:
    sound = fleets.alone()
    shown = render.page(pages.page(replace(sound, rows=tuple(replace(row, action="use") for row in sound.rows))))
    assert "| use it |" in shown
    assert "All points" in shown
    deciding = replace(sound, rows=tuple(row for row in sound.rows if row.deciding))
    assert "All points" not in render.page(pages.page(deciding)), "they are the same rows"
    warned = pages.report(fleets.mixed(), {}).warning
    assert "old is not trusted" in warned
    assert "several versions of the method" in warned


def test_the_interval_of_tokens_per_second_covers_its_mean() -> None:
    """3 and 6 blocks, normal with a scatter of 5 % and 25 %: 8 000 runs each; a 95 % interval."""
    made = np.random.default_rng(12)
    for blocks, sd in itertools.product((3, 6), (50, 250)):
        runs = made.normal(1000, sd, size=(8_000, blocks))
        means, cvs = runs.mean(axis=1), runs.std(axis=1, ddof=1) / runs.mean(axis=1)
        intervals = [table.interval(mean, cv, blocks) for mean, cv in zip(means, cvs, strict=True)]
        covered = np.mean([low <= 1000 <= high for low, high in intervals])  # type: ignore[misc]
        assert covered == pytest.approx(0.95, abs=0.008)
    assert table.interval(1000, 0.05, 2) is None
    low, high = table.interval(9.56, 0.6, 3) or (0.0, 0.0)
    assert 0 < low < 9.56 < high, "no throughput is below zero"


def test_the_files_of_a_fleet_lie_below_joined() -> None:
    assert {os.path.dirname(path) for path in joined.paths("f").values()} == {"fleets/f/joined"}  # noqa: PTH120


PROGRAM = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "config.json").write_text('{"model_type": "fake"}')
(folder / "model.safetensors").write_bytes((56).to_bytes(8, "little") + b"{}".ljust(56))
with (folder.parent / "made").open("a") as log:
    log.write("once ")
time.sleep(0.3)
"""


@pytest.mark.fault(
    "two comparisons of a fleet make the same model at once",
    "one makes it, the other waits for its lock and takes what is made",
)
def test_a_model_that_two_comparisons_want_is_made_once(tmp_path: Path) -> None:
    marker = tmp_path / "models/gpu/int8/provenance.json"
    made = Provenance(model="int8", source="demo", inputs={"a": "1"})

    def make(log: str) -> None:
        made_models.build(marker, [sys.executable, "-c", PROGRAM], tmp_path / log, made)

    with ThreadPoolExecutor(2) as both:
        list(both.map(make, ("1.log", "2.log")))
    marker.unlink()  # as snakemake does before a job of the second comparison, which was planned before it was made
    make("3.log")
    assert (marker.parents[1] / "made").read_text() == "once "
    assert marker.exists()
    made_models.build(marker, [sys.executable, "-c", PROGRAM], tmp_path / "4.log", replace(made, inputs={"a": "2"}))
    assert (marker.parents[1] / "made").read_text() == "once once ", "another recipe is another model"


HANDS_ON = """
import signal, subprocess, sys, threading
from quantbench.fleet import signals
signals.hand_on()
lock = threading.Lock()
signal.signal(signal.SIGTERM, lambda *_: lock.acquire())  # as Snakemake's handler, which may wait forever
child = subprocess.Popen(["sleep", "60"])
with lock:
    print("up", flush=True)
    child.wait()
"""


@pytest.mark.fault(
    "a scheduler's SIGTERM reaches a Snakemake that only waits for its jobs, or is frozen by its own handler",
    "the job gets it all the same, and has the scheduler's grace to stop its servers",
)
def test_sigterm_goes_on_to_jobs_whatever_the_handler_does() -> None:
    with subprocess.Popen([sys.executable, "-c", HANDS_ON], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            [child] = psutil.Process(process.pid).children()
            process.terminate()
            assert processes.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20)
        finally:
            process.kill()


@pytest.mark.fault("`kill -9` of the job of a comparison", "its run ends with it")
def test_a_run_does_not_outlive_its_job(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text("import pathlib, time\npathlib.Path('up').touch()\ntime.sleep(60)\n")
    code = f"""
from pathlib import Path
from quantbench.fleet import inner
inner.run(Path({str(tmp_path)!r}), ["snakemake", "--cores", "1"])
"""
    with subprocess.Popen([sys.executable, "-c", code]) as job:
        try:
            assert processes.until((tmp_path / "up").exists, 60)
            [run] = psutil.Process(job.pid).children()
        finally:
            job.kill()
    assert processes.until(lambda: not run.is_running(), 20)


ENTER = """
import os, sys
from pathlib import Path
from quantbench.fleet import comparisons, joined
os.execv = lambda *_: print("again")
joined.enter(comparisons.Fleet(Path(sys.argv[1]), "f", {}))
print("in", flush=True)
sys.stdin.readline()
"""


@pytest.mark.fault("two fleets of one name in one folder", "the second waits, and then does what the first has left")
def test_a_second_fleet_of_one_name_waits(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    line = [sys.executable, "-c", ENTER, str(tmp_path)]
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "in\n"
        with subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as second:
            assert second.stderr
            assert f"waiting for the run with process id {first.pid}" in second.stderr.readline()
            first.communicate("\n")
            assert second.communicate("\n")[0] == "again\nin\n"
