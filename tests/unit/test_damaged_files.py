"""Result files that a crash, a full disk or a hand has changed: the message names the file, never a wrong number."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import page_facts
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_damage import damaged_json
from quantbench import jobs, results
from quantbench.client import tables_io
from quantbench.errors import QuantbenchError
from quantbench.files import atomic, write_json
from quantbench.records.base import read
from quantbench.records.block import BlockContext, Calibration
from quantbench.records.comparison import Comparison, Verdict
from quantbench.records.cost import Cost
from quantbench.records.decision import Decision
from quantbench.records.measurement import Measurement
from quantbench.records.quality import PlainPair, QualityDetails
from quantbench.records.request import RequestRecord
from quantbench.records.server import LaneRecord, MeasuredStart, MeasuredStarts, Provenance, Ready, Session
from quantbench.records.tables import ImpactRow, MemoryRow, StartupRow
from quantbench.serving import folder, identity, owner
from servers import fake_spec

Read = Callable[[Path], Any]
KEPT = Path(__file__).parents[2] / "docs/reference/h100"


def said(read: Read, path: Path) -> str:
    """What the error says; it must name the file and a remedy."""
    with pytest.raises(QuantbenchError) as caught:
        read(path)
    assert str(path) in caught.value.what
    assert "delete it" in caught.value.remedy
    return caught.value.what


@pytest.mark.parametrize(
    ("pattern", "read"),
    [
        ("raw/**/b1.json", results.read_block),
        ("raw/**/b1.parquet", tables_io.read_records),
        ("client/*.json", lambda path: read(path, Calibration)),
        ("servers/*/ready.json", lambda path: results.by_model([path], Ready)),
        ("cells/*/*/*.csv", lambda path: results.combine_capacity([path], "awq", "chat")),
        ("capacity/*.csv", lambda path: results.read_capacity([path])),
        ("memory.csv", lambda path: results.read_rows(path, MemoryRow)),
        ("startup.csv", lambda path: results.read_rows(path, StartupRow)),
        ("comparison/chat.csv", lambda path: results.read_rows(path, Comparison)),
        ("comparison/chat_vs_batch.csv", lambda path: results.read_rows(path, ImpactRow)),
    ],
)
def test_a_file_that_is_empty_cut_or_other_is_named(tmp_path: Path, pattern: str, read: Read) -> None:
    whole = sorted(KEPT.glob(pattern))[0].read_bytes()
    path = tmp_path / f"file{Path(pattern).suffix}"
    path.write_bytes(whole)
    read(path)
    for damage in (b"", whole[:7], whole[: len(whole) // 2], whole[:-4]):
        path.write_bytes(damage)
        assert "is damaged" in said(read, path)


BLOCK, MEMORY, CAPACITY = "raw/**/b1.json", "memory.csv", "cells/awq/**/*.csv"


@pytest.mark.parametrize(("pattern", "read", "old", "new", "words"), [
    (BLOCK, results.read_block, '"started_unix": 1795299299.756433,', "", "missing required field `started_unix`"),
    (BLOCK, results.read_block, '"block":', '"shoe_size": 43, "block":', "unknown field `shoe_size`"),
    (BLOCK, results.read_block, '"metrics": {', '"metrics": {"speed": 1, ', "unknown metric speed"),
    (BLOCK, results.read_block, '"n": 704', '"n": "704"', "got `str` - at `$.metrics"),
    (BLOCK, results.read_block, '"cpu_s": 1.6982731309999999', '"cpu_s": []', "got `array` - at `$.client.cpu_s`"),
    (MEMORY, lambda p: results.read_rows(p, MemoryRow), "kernel", "colonel", "unknown column `colonel`"),
    (MEMORY, lambda p: results.read_rows(p, MemoryRow), "66190.0", "lots", "at `$.vram_after_mib`"),
    ("comparison/chat.csv", lambda p: results.read_rows(p, Comparison), "worse", "bad", "at `$.code`"),
    (CAPACITY, lambda p: results.read_capacity([p]), "throughput_cv", "cv", "unknown column `cv`"),
    (CAPACITY, lambda p: results.read_capacity([p]), "4630.09", "fast", "column `throughput_tok_s`"),
])  # fmt: skip
def test_a_key_or_column_that_is_missing_unknown_or_of_another_type_is_named(
    tmp_path: Path, pattern: str, read: Read, old: str, new: str, words: str
) -> None:
    path = tmp_path / f"file{Path(pattern).suffix}"
    whole = sorted(KEPT.glob(pattern))[0].read_text(encoding="utf-8")
    path.write_text(whole.replace(old, new, 1), encoding="utf-8")
    assert words in said(read, path)


def test_records_of_another_kind_are_named(tmp_path: Path) -> None:
    path = tmp_path / "b1.parquet"
    tables_io.write_records(path, [RequestRecord(index=0, prompt_id="1")])
    assert len(tables_io.read_records(path)) == 1
    tables_io.pl.read_parquet(path).drop("gaps_us").write_parquet(path)  # of an older version
    assert tables_io.read_records(path)[0].gaps_us is None
    tables_io.pl.read_parquet(path).with_columns(chunks=tables_io.pl.lit("x")).write_parquet(path)
    assert "chunks" in said(tables_io.read_records, path)
    tables_io.pl.DataFrame({"index": [0]}).write_parquet(path)
    assert "without the column prompt_id, sent_ns" in said(tables_io.read_records, path)


@pytest.mark.parametrize("text", ["a;b\n1;2\n", "model,workload,concurrency,max_tokens\n"])
def test_a_table_saved_by_another_program_or_without_its_row_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c1_t16.csv"
    path.write_text(text)
    said(lambda p: results.combine_capacity([p], "awq", "chat"), path)


def test_a_damaged_ready_json_is_named_when_the_plan_is_made(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    for text in ("", "[]", "{}"):
        path.write_text(text)
        said(lambda p: identity.planned(fake_spec(tmp_path), p, made_here=False), path)


def test_what_cannot_be_written_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where a folder should be")
    for write in (lambda path: write_json(path, {}), lambda path: folder.need_writable(path.parent)):
        with pytest.raises(QuantbenchError) as caught:
            write(tmp_path / "results/fake/b1.json")
        assert "results/fake" in caught.value.what
        assert "writable" in caught.value.remedy


def test_a_full_disk_is_named_and_leaves_no_part_behind(tmp_path: Path) -> None:
    path = tmp_path / "b1.json"
    path.write_text("old")

    def fill_the_disk() -> None:
        with atomic(path) as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(QuantbenchError, match="No space left"):
        fill_the_disk()
    assert [p.name for p in tmp_path.iterdir()] == ["b1.json"]
    assert path.read_text() == "old"


def test_a_writable_folder_stays_as_it_was(tmp_path: Path) -> None:
    folder.need_writable(tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_a_job_whose_log_cannot_be_written_says_its_error_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(owner, "end_with_owner", lambda: None)
    (tmp_path / "logs").touch()
    job = SimpleNamespace(log=[str(tmp_path / "logs/rule.log")])
    jobs.run(job, lambda _: None)

    def fail(_: object) -> None:
        raise QuantbenchError("no room on the disk")

    with pytest.raises(SystemExit) as ended:
        jobs.run(job, fail)
    assert ended.value.code == 1
    assert "no room on the disk" in capsys.readouterr().err


def test_a_state_folder_that_cannot_be_made_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv(owner.STATE, str(tmp_path / "state"))
    with pytest.raises(QuantbenchError, match="state folder") as caught:
        owner.state_dir()
    assert owner.STATE in caught.value.remedy


def kept(pattern: str) -> Any:
    """The JSON of a kept file, without the texts that only make it long."""
    return json.loads(sorted(KEPT.glob(pattern))[0].read_bytes())


def plain(record: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(record))


JSON_FILES: dict[str, tuple[Any, Any]] = {
    "b1.json": (BlockContext, kept("raw/**/b1.json")),
    "calibration.json": (Calibration, kept("client/*.json")),
    "ready.json": (Ready, kept("servers/*/ready.json")),
    "session.json": (Session, kept("servers/*/session.json")),
    "startup.json": (
        MeasuredStarts,
        plain(MeasuredStarts(model="m", starts=(MeasuredStart(round=1, wanted="cold", missing={"a": "b"}),))),
    ),
    "lanes.json": (dict[str, LaneRecord], {"one": {"mode": "restart", "reason": "x"}, "two": {"mode": "sleep"}}),
    "verdict.json": (Verdict, kept("comparison/verdict.json")),
    "decision.json": (Decision, kept("decision.json")),
    "quality_details.json": (QualityDetails, kept("quality/quality_details.json")),
    "quality.json": (list[PlainPair], kept("quality/quality.json")),
    "cost.json": (Cost, kept("cost.json")),
    "measurement.json": (Measurement, plain(page_facts.measurement().as_dict())),
    "provenance.json": (Provenance, plain(Provenance(model="m", source="s", sha256={"a": "b"}))),
}


@pytest.mark.fault(
    "a JSON file of the results is valid and of another shape ([], {}, a null, a number for a text, deep, huge)",
    "one line names file and key, with the remedy; never a traceback",
)
@pytest.mark.parametrize("name", JSON_FILES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_json_of_any_other_shape_is_read_or_named(name: str, tmp_path: Path, data: st.DataObject) -> None:
    kind, whole = JSON_FILES[name]
    path = tmp_path / name
    path.write_text(json.dumps(whole))
    read(path, kind)
    path.write_bytes(data.draw(damaged_json(whole)))
    try:
        read(path, kind)
    except QuantbenchError as error:
        assert error.what.startswith(f"{path} is damaged: ")
        assert "\n" not in error.what
        assert "delete it" in error.remedy


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [
        (dict[str, LaneRecord], '{"two": {"mode": "sleep"}, "one": null}', "$['one']"),
        (dict[str, LaneRecord], '{"two": {"mode": "sleep"}, "one": {"mode": "fast"}}', "$['one'].mode"),
        (Provenance, '{"model": "m", "source": "s", "sha256": {"a": "b", "c": 1}}', "$.sha256['c']"),
        (Calibration, "[" * 10**5, "recursion"),
    ],
)
def test_the_key_at_fault_is_named_also_within_a_mapping(tmp_path: Path, kind: Any, text: str, place: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    assert place in said(lambda p: read(p, kind), path)


def test_a_file_that_is_there_and_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    with pytest.raises(QuantbenchError, match="a folder cannot be read: Is a directory") as caught:
        read(tmp_path / "a folder", Ready)
    assert "move it away" in caught.value.remedy
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing", Ready)
