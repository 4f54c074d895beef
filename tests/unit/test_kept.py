"""What lies on the disk against a plan: what is found of it, how it is set aside, put back and taken back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import runs
from box import small_config
from quantbench import ask_lane, kept
from quantbench.config import model_plan, settings
from quantbench.config.schema import deep_merge
from quantbench.errors import QuantbenchError
from quantbench.files import write_text
from quantbench.quality import suites
from quantbench.records.base import read, write
from quantbench.records.block import BlockContext
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.results import judged_blocks
from source import ROOT

CELL, TREE = Cell.of("chat", 4, 16), Results("fake")
CONFIG = small_config()


def plan_of(**changes: Any) -> settings.Plan:
    return settings.load(ROOT, deep_merge(CONFIG, changes))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("config", "data"):
        (tmp_path / part).symlink_to(ROOT / part)
    monkeypatch.chdir(tmp_path)


def keep(number: int = 1, arm: str = "beta", **changes: Any) -> list[Path]:
    """A block of the plan with these changes, on the disk; record first."""
    plan = plan_of(**changes)
    with_ = kept.expected(plan).block(arm, CELL)
    assert with_ is not None
    block = runs.block(arm, CELL, number, measured_with=with_, min_seconds=with_.knobs.min_seconds)
    files = [TREE.file(kind, CELL, arm=arm, block=number) for kind in ("block", "records")]
    write(files[0], block)
    write_text(files[1], f"requests of {changes}")
    return files


def of(number: int = 1, arm: str = "beta") -> dict[str, Any]:
    return {"arm": arm, **CELL.columns, "block": number}


def found(number: int = 1, **changes: Any) -> kept.Found:
    return kept.Kept(plan_of(**changes), TREE).found("block", of(number))


SEVEN = {"models": {"beta": {"server": {"max_num_seqs": 7}}}}


def test_what_is_found_of_a_block() -> None:
    assert found().state == "missing"
    record, requests = keep()
    assert found().state == "fits"
    assert found(models={"beta": {"port": 9999}}, server={"start_timeout_s": 61}).state == "fits", (
        "where it is, not what"
    )
    assert found(**SEVEN) == kept.Found("other", ("max_num_seqs 64, now 7",))
    assert found(block={"min_seconds": 0.3}).differences == ("min_seconds 0.2, now 0.3",)
    write(record, runs.but(read(record, BlockContext), measured_with=None))
    assert found(**SEVEN).state == "unknown", "an earlier version kept less"
    write(record, runs.but(read(record, BlockContext), protocol=0))
    assert found().state == "other"
    record.write_text("{")
    assert found().state == "unknown", "its reader says in words that it is damaged"
    requests.unlink()
    assert found().state == "missing"


def test_a_copy_of_a_block_is_no_second_block() -> None:
    record, _ = keep()
    copy = keep(2)[0]
    copy.write_bytes(record.read_bytes())
    assert found(2) == kept.Found("other", ("a copy of b1 of beta, chat/c4_t16",))
    there = kept.Kept(plan_of(), TREE)
    there.set_aside([("block", of(2), False)])
    copy.unlink()
    wanted = kept.expected(plan_of()).block("beta", CELL)
    assert not kept.take_back("block", there.files("block", of(2)), wanted), "it would come back in each run"
    there.put_back()
    assert len(judged_blocks([record], {}, [])) == 1
    with pytest.raises(QuantbenchError, match="it is b1 of beta"):
        judged_blocks([record, copy], {}, [])
    elsewhere = record.parents[1] / "c1_t16" / record.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(record.read_bytes())
    with pytest.raises(QuantbenchError, match="it is b1 of beta, chat/c4_t16"):
        judged_blocks([elsewhere], {}, [])


def test_blocks_of_another_configuration_do_not_make_a_cell_longer() -> None:
    keep(1)
    keep(2)
    keep(3, **SEVEN)
    assert kept.Kept(plan_of(), TREE).blocks("beta", CELL) == 2
    assert kept.Kept(plan_of(**SEVEN), TREE).blocks("beta", CELL) == 3


def test_a_plan_looks_at_the_folder_of_a_cell_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(1)
    looked, look = [], settings.blocks_on_disk
    monkeypatch.setattr(settings, "blocks_on_disk", lambda *a: looked.append(a) or look(*a))
    there = kept.Kept(plan_of(), TREE)
    assert [there.blocks("beta", CELL) for _ in range(9)] == [1] * 9, "for each rule that rests on its blocks"
    assert len(looked) == 1
    keep(2)
    there.look_again()
    assert there.blocks("beta", CELL) == 2


def test_what_is_missing_is_missed_only_where_a_result_had_it() -> None:
    missed = lambda: kept.Kept(plan_of(), TREE).again("block", of())  # noqa: E731
    assert not missed(), "a run that has just begun"
    _, requests = keep()
    assert not missed()
    requests.unlink()
    assert missed(), "half a block"
    TREE.file("block", CELL, arm="beta", block=1).unlink()
    assert not missed()
    TREE.file("cell", CELL, arm="beta").parent.mkdir(parents=True)
    TREE.file("cell", CELL, arm="beta").touch()
    assert missed(), "its tuple is there"


OF_TUPLE = {"arm": "beta", **{name: str(value) for name, value in CELL.columns.items()}}
INDEX = TREE.path("measured", CELL, arm="beta")


def told() -> None:
    """What a job of measure_tuple leaves behind."""
    write(Path(INDEX), {"measured": [1, 2], "blocks": ask_lane.blocks_in(str(Path(INDEX).parent))})


def test_of_a_tuple_what_is_lost_or_of_another_configuration_is_measured() -> None:
    due = lambda asked=False, since=0.0, **changes: kept.Kept(plan_of(**changes), TREE).to_measure(  # noqa: E731
        OF_TUPLE, asked, since
    )
    blocks = plan_of().blocks(CELL)
    assert due() == list(range(1, blocks + 1))
    keep(1)
    keep(2, **SEVEN)
    record, _ = keep(blocks + 2)
    assert due() == [*range(2, blocks + 2)], "a further block counts, and so does one before it"
    assert due(asked=True) == list(range(1, blocks + 3))
    assert due(**SEVEN) == [1, *range(3, blocks + 1)], "what is missing before one of another is not missed"
    write(record, runs.but(read(record, BlockContext), measured_with=None))
    assert blocks + 2 not in due(), "it does not tell, and nothing is newer"
    assert blocks + 2 in due(since=record.stat().st_mtime + 1)


def test_a_tuple_is_settled_when_all_its_blocks_fit() -> None:
    settles = lambda: kept.Kept(plan_of(), TREE).settles("measure_tuple", OF_TUPLE)  # noqa: E731
    for number in range(1, plan_of().blocks(CELL) + 1):
        assert not settles()
        keep(number)
    assert settles()
    keep(1, **SEVEN)
    assert not settles()


@pytest.mark.parametrize("what", ["record", "requests", "measured.json", "deleted", "nothing"])
def test_what_is_not_as_its_job_has_seen_it_is_looked_at_again(what: str) -> None:
    demanded = lambda: list(kept.Kept(plan_of(), TREE).demanded("measure_tuple", OF_TUPLE))  # noqa: E731
    (record, requests), _ = (keep(number) for number in range(1, plan_of().blocks(CELL) + 1))
    assert demanded() == [], "snakemake sees itself that measured.json is missing"
    told()
    assert demanded() == []
    if what == "deleted":
        record.unlink()
    elif what != "nothing":
        {"record": record, "requests": requests, "measured.json": Path(INDEX)}[what].write_text("{")
    assert demanded() == ([] if what == "nothing" else [INDEX])


def set_aside(plan: settings.Plan, *, asked: bool = False) -> tuple[kept.Kept, list[str]]:
    there = kept.Kept(plan, TREE)
    return there, there.set_aside([("block", of(), asked), ("write_pages", {}, False)])


@pytest.mark.parametrize("links", [True, False])
def test_there_and_back_again(links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    files = keep()
    before = [file.read_bytes() for file in files]
    there, said = set_aside(plan_of(**SEVEN))
    assert said == [f"1 block of another configuration set aside: {TREE.root}/raw/*/*/*/set_aside"]
    keep(**SEVEN)  # the job
    there.put_back()
    assert found(**SEVEN).state == "fits"
    back = kept.expected(plan_of()).block("beta", CELL)
    assert list(kept.Kept(plan_of(), TREE).words()) == [
        "1 block of beta of another configuration (max_num_seqs 7, now 64): set aside and made again where asked for",
        "1 block of this configuration was set aside before: taken back, not measured",
    ]
    there, _ = set_aside(plan_of())
    for file in files:  # as snakemake does before the job
        file.unlink()
    assert back is not None
    assert kept.take_back("block", files, back)
    there.put_back()
    assert [file.read_bytes() for file in files] == before
    assert found().state == "fits"
    for file in files:
        file.unlink()
    assert not kept.take_back("block", files, back), "what a user deletes is measured"


def test_what_no_job_came_to_replace_lies_where_it_lay() -> None:
    files = keep()
    before = [file.read_bytes() for file in files]
    there, _ = set_aside(plan_of(**SEVEN))
    there.put_back()  # no job ran
    assert [file.read_bytes() for file in files] == before
    assert not list(Path().glob("**/set_aside"))
    there, _ = set_aside(plan_of(**SEVEN))
    for file in files:
        file.unlink()
    files[1].write_text("half of what another job was at")
    there.put_back()  # the job failed
    assert [file.read_bytes() for file in files] == before
    assert not list(Path().glob("**/set_aside"))
    set_aside(plan_of(**SEVEN))  # killed before any job
    set_aside(plan_of())[0].put_back()
    assert list(Path().glob("**/set_aside")), "a round of further blocks drops no names of the run that it is part of"
    kept.Kept(plan_of(), TREE).forget_links()
    assert not list(Path().glob("**/set_aside"))


def test_what_is_asked_for_again_is_not_taken_from_what_lies_set_aside() -> None:
    files = keep()
    there, _ = set_aside(plan_of(**SEVEN))
    keep(**SEVEN)
    there.put_back()
    set_aside(plan_of(), asked=True)
    wanted = kept.expected(plan_of()).block("beta", CELL)
    assert wanted is not None
    assert not kept.take_back("block", files, wanted)
    assert len(list(Path().glob("**/set_aside/*/b1.json"))) == 1, "that of the other configuration is not lost"


def test_a_block_that_does_not_tell_is_kept_and_never_taken_for_another() -> None:
    files = keep()
    write(files[0], runs.but(read(files[0], BlockContext), measured_with=None))
    set_aside(plan_of(**SEVEN))
    for file in files:
        file.unlink()
    for plan in (plan_of(), plan_of(**SEVEN)):
        wanted = kept.expected(plan).block("beta", CELL)
        assert wanted is not None
        assert not kept.take_back("block", files, wanted)
    assert len(list(Path().glob("**/set_aside/*/b1.json"))) == 1


def test_a_server_record_is_told_by_content_too() -> None:
    served = kept.expected(plan_of()).servers["beta"]
    ready, script = TREE.file("ready", model="beta"), TREE.file("serve_sh", model="beta")
    write(ready, runs.ready("beta", served_with=served))
    script.touch()
    state = lambda plan: kept.Kept(plan, TREE).found("start_server", {"model": "beta"}).state  # noqa: E731
    assert (state(plan_of()), state(plan_of(**SEVEN))) == ("fits", "other")
    write(ready, runs.ready("beta"))
    assert state(plan_of(**SEVEN)) == "unknown"
    ready.unlink()
    lost = lambda: kept.Kept(plan_of(), TREE).again("start_server", {"model": "beta"})  # noqa: E731
    assert not lost()
    record, _ = keep()
    assert lost()
    write(record, runs.but(read(record, BlockContext), measured_with=None))
    assert not lost(), "a new start would put blocks at risk that do not tell with what they were measured"


def suite_plan(items: list[dict[str, Any]], **changes: Any) -> settings.Plan:
    """The plan with a suite of these items."""
    write_text("tasks.jsonl", "".join(f"{json.dumps(item)}\n" for item in items))
    suites = {"tasks": {"kind": "answers", "items": str(Path("tasks.jsonl").resolve())}}
    models = {name: {"load_format": "auto"} for name in CONFIG["models"]}
    quality = {"prompts": "config/prompts/quality.jsonl", "suites": suites}
    return plan_of(**deep_merge({"quality": quality, "models": models}, changes))


def test_a_suite_is_told_by_what_it_asks_and_not_by_its_file() -> None:
    item = {"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": []}
    of_beta = {"suite": "tasks", "model": "beta"}
    found = lambda plan: kept.Kept(plan, TREE).found("collect_suite", of_beta)  # noqa: E731
    plan = suite_plan([item])
    assert found(plan).state == "missing"
    items = kept.items(plan, "tasks", Path())
    version = suites.version(plan.suites["tasks"], items)
    told = kept.collected_with(plan, "tasks", "beta", kept.expected(plan).servers["beta"], version)
    write(TREE.file("collected_with", **of_beta), told)
    write(TREE.file("collected", **of_beta), [])
    assert found(plan).state == "fits"
    assert found(suite_plan([item | {"checks": [{"type": "contains", "any": ["y"]}]}])).state == "fits"
    assert found(suite_plan([item | {"prompt": "y"}])) == kept.Found("other", ("other items",))
    assert found(suite_plan([item], **SEVEN)) == kept.Found("other", ("max_num_seqs 64, now 7",))
    assert model_plan.floor(plan, "alpha", "tasks") == [1, 8]
    assert model_plan.floor(plan, "beta", "tasks") == []


def test_what_a_suite_keeps_stays_until_its_job_is_asked_for_again() -> None:
    item = {"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": []}
    of_beta, plan = {"suite": "tasks", "model": "beta"}, suite_plan([item])
    store = TREE.file("kept_items", **of_beta)
    write_text(store, "{}")
    for asked in (False, True):
        assert store.exists()
        there = kept.Kept(plan, TREE)
        there.set_aside([("collect_suite", of_beta, asked)])
        there.put_back()
    assert not store.exists()
    assert not list(Path().glob("**/set_aside"))
