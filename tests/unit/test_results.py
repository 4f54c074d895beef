"""Result files read and written: nothing is lost on the way, and kept results of an older version stay readable."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from quantbench import results
from quantbench.client.tables_io import write_records
from quantbench.errors import QuantbenchError
from quantbench.judge.verdict import build_verdict
from quantbench.records.base import Record, read
from quantbench.records.block import Calibration
from quantbench.records.comparison import COMPARISON_COLUMNS, Comparison, Primary
from quantbench.records.request import RequestRecord
from quantbench.records.server import Ready, Session
from quantbench.records.tables import ImpactRow, MemoryRow, StartupRow

KEPT = Path(__file__).parents[2] / "docs/reference/h100"
BLOCKS = sorted(KEPT.glob("raw/**/b*.json"))


def _tuple(folder: Path, concurrency: int, model: str = "m", p95: str = "1.0", name: str = "") -> Path:
    path = folder / f"{name or concurrency}.csv"
    header = "gpu_name,model,workload,concurrency,max_tokens,p95_ttft_ms,blocks,valid"
    path.write_text(f"{header}\ng,{model},chat,{concurrency},128,{p95},6,true\n")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 500), min_size=1, max_size=8, unique=True))
def test_capacity_holds_every_tuple_once_in_order(tmp_path: Path, concurrencies: list[int]) -> None:
    table = results.combine_capacity([_tuple(tmp_path, c) for c in concurrencies], "m", "chat")
    assert table["concurrency"].to_list() == sorted(concurrencies)


def test_capacity_takes_blank_columns_and_refuses_strangers_and_copies(tmp_path: Path) -> None:
    one, eight, blank = _tuple(tmp_path, 1), _tuple(tmp_path, 8, p95="2"), _tuple(tmp_path, 16, p95="")
    mixed = results.combine_capacity([blank, eight, one], "m", "chat")
    assert mixed["p95_ttft_ms"].to_list() == [1.0, 2.0, None]
    with pytest.raises(QuantbenchError, match="found rows of"):
        results.combine_capacity([one, _tuple(tmp_path, 8, model="007")], "m", "chat")
    with pytest.raises(QuantbenchError, match="twice"):
        results.combine_capacity([one, one], "m", "chat")


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", "1e999", "-5"])
def test_what_no_measurement_gives_is_named(tmp_path: Path, value: str) -> None:
    path = _tuple(tmp_path, 8, p95=value)
    for read_it in (lambda: results.read_capacity([path]), lambda: results.combine_capacity([path], "m", "chat")):
        with pytest.raises(QuantbenchError, match=r"8\.csv is damaged: column `p95_ttft_ms`"):
            read_it()


def test_a_record_of_another_model_is_named(tmp_path: Path) -> None:
    shutil.copytree(KEPT / "raw/fp8", tmp_path / "raw/fp8")
    (tmp_path / "servers/fp8").mkdir(parents=True)
    shutil.copy(KEPT / "servers/bf16/ready.json", tmp_path / "servers/fp8/ready.json")
    with pytest.raises(QuantbenchError, match=r"fp8/ready\.json is damaged: it is not of fp8"):
        results.kept_run(tmp_path)


def test_tuples_are_parsed_together_and_faults_found_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, parsed, parse = [_tuple(tmp_path, c) for c in range(1, 101)], [], pl.read_csv
    monkeypatch.setattr(pl, "read_csv", lambda *a, **more: parsed.append(a) or parse(*a, **more))
    assert results.combine_capacity(paths, "m", "chat").height == 100
    assert len(parsed) == 1
    _tuple(tmp_path, 70, p95="slow")
    with pytest.raises(QuantbenchError, match=r"/70\.csv.*column `p95_ttft_ms` holds text"):
        results.combine_capacity(paths, "m", "chat")
    paths[69].write_text(paths[68].read_text() + paths[69].read_text().splitlines()[1] + "\n")
    with pytest.raises(QuantbenchError, match=r"/70\.csv.*2 rows"):
        results.combine_capacity(paths, "m", "chat")


def test_a_capacity_row_has_its_figures_and_reasons() -> None:
    rows = results.read_capacity(sorted(KEPT.glob("capacity/*.csv")))
    assert [row.model for row in rows] == ["awq", "bf16", "fp8", "gptq"]
    row = rows[0]
    assert (row.cell.key, row.blocks, row.valid, row.reasons) == ("chat/c16_t128", 6, True, ("ITL_NOT_KEPT",))
    assert row.number("throughput_tok_s") == 4630.098497780771
    assert (row.number("server_corrupted_requests"), row.number("bottleneck")) == (None, None)


@pytest.mark.parametrize(
    ("name", "kind", "columns"),
    [
        ("memory.csv", MemoryRow, None),
        ("startup.csv", StartupRow, None),
        ("comparison/chat.csv", Comparison, COMPARISON_COLUMNS),
        ("comparison/chat_vs_batch.csv", ImpactRow, None),
    ],
)
def test_a_table_that_is_read_and_written_is_the_same(
    tmp_path: Path, name: str, kind: type[Record], columns: tuple[str, ...] | None
) -> None:
    results.write_rows(tmp_path / "again.csv", results.read_rows(KEPT / name, kind), columns)
    assert (tmp_path / "again.csv").read_bytes() == (KEPT / name).read_bytes()


def test_text_that_looks_like_a_number_stays_text_and_reasons_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "chat.csv"
    path.write_text((KEPT / "comparison/chat.csv").read_text().replace(",awq,", ",007,").replace('""', '"A; B"'))
    rows = results.read_rows(path, Comparison)
    assert rows[0].variant == "007"
    assert rows[0].reasons == ("A", "B")


def test_a_table_keeps_its_columns_without_rows(tmp_path: Path) -> None:
    results.write_rows(tmp_path / "chat.csv", [], COMPARISON_COLUMNS)
    assert (tmp_path / "chat.csv").read_text().strip() == ",".join(COMPARISON_COLUMNS)
    assert results.read_rows(tmp_path / "chat.csv", Comparison) == []


def test_kept_blocks_give_the_kept_verdict_again() -> None:
    ready = results.by_model(sorted(KEPT.glob("servers/*/ready.json")), Ready)
    sessions = results.by_model(sorted(KEPT.glob("servers/*/session.json")), Session)
    blocks = results.judged_blocks(BLOCKS, ready, [read(path, Calibration) for path in KEPT.glob("client/*.json")])
    samples = results.samples(blocks, [path.with_suffix(".parquet") for path in BLOCKS])
    variants = [model for model in ready if model != "bf16"]
    failures = results.pair_failures(blocks, ready, "bf16", variants)
    primary = Primary(workload="chat", concurrency=16, max_tokens=128, metric="throughput_tok_s")
    rows = build_verdict(
        blocks, baseline="bf16", primary=primary, samples=samples, pair_failures=failures, gpu_name="H100-80GB"
    ).rows
    kept = {(row.variant, row.metric): row for row in results.read_rows(KEPT / "comparison/chat.csv", Comparison)}
    # Since then the margin is the user's own, and what answers no question of a reader has no test; the rest stands.
    for row in rows:
        before = kept[row.variant, row.metric]
        figures = ("ratio", "ci_low", "ci_high", "n_pairs", *(["p_value", "code"] if row.code != "described" else []))
        assert {name: getattr(row, name) for name in figures} == {name: getattr(before, name) for name in figures}
        assert row.margin == 0.02
        assert (row.p_value is None) == (row.code == "described")
    assert len(rows) == len(kept) == 21
    assert {check.of for check in results.other_guards(blocks, ready, sessions, "bf16")} == {*ready, "run"}


@pytest.mark.fault(
    "a results folder is mixed from two runs: the requests of a block lie beside the record of another",
    "named, with what differs; nothing is computed from the two",
)
def test_requests_of_another_block_are_named() -> None:
    one, other = BLOCKS[:2]
    block = results.read_block(one)
    assert len(results.requests_of(block, one.with_suffix(".parquet"))) == block.metrics["n"]
    with pytest.raises(QuantbenchError, match=r"b2\.parquet is damaged: it is of another block.*duration_s"):
        results.samples([block], [other.with_suffix(".parquet")])


@pytest.mark.fault(
    "a bit of a file of requests has turned over (a bad disk, a copy that broke)",
    "named, with what to do; no figure is computed from it",
)
def test_requests_that_were_changed_since_are_named(tmp_path: Path) -> None:
    path, block = tmp_path / "b1.parquet", results.read_block(BLOCKS[0])
    records = results.requests_of(block, BLOCKS[0].with_suffix(".parquet"))
    block = replace(block, records_sha256=write_records(path, records))
    assert results.requests_of(block, path) == records
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(
            QuantbenchError, match=r"b1\.parquet is damaged: it is not the file that was written with b1"
        ):
            results.requests_of(block, path)


def test_the_longest_request_is_the_longest_prompt_of_any_block_and_the_tokens_of_its_workload(tmp_path: Path) -> None:
    def records(workload: str, *lengths: int | None) -> Path:
        path = tmp_path / "raw/bf16" / workload / "c1_t8/b1.parquet"
        path.parent.mkdir(parents=True)
        write_records(path, [RequestRecord(i, "p", prompt_tokens=length) for i, length in enumerate(lengths)])
        return path

    paths = [records("chat", 40, 90, None), records("batch", 300, 200), records("untold", None), records("gone", 999)]
    assert results.longest_request(paths, {"chat": 512, "batch": 256, "untold": 9999}) == 90 + 512
    assert results.longest_request(paths[2:3], {"untold": 8}) is None
    (tmp_path / "raw/bf16/chat/c1_t8/b1.parquet").write_bytes(b"cut")
    with pytest.raises(QuantbenchError, match=r"b1\.parquet"):
        results.longest_request(paths, {"chat": 512})
