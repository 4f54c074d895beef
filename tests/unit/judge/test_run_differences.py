"""What differs between two runs: each difference is found, refuses or warns, and is declared by group or key."""

from __future__ import annotations

from typing import Any

import pytest
import runs
import two_run_facts as made
from msgspec.structs import replace
from quantbench.judge.guards import GUARDS
from quantbench.judge.run_differences import _NEVER, _OF_GUARD, GROUPS, group_of, unknown_names
from quantbench.judge.two_runs import compare_runs
from quantbench.records.block import BlockKnobs, Hardware, HostLoad, MeasuredWith, ServedWith, ServerFacts
from quantbench.records.server import Memory, Quantization, Settings, Versions
from quantbench.records.two_runs import TwoRuns
from two_run_facts import STEADY, facts

SPEC: dict[str, Any] = {"source": "made/bf16", "settings": {"max_num_seqs": 64, "env": {"A": "1"}, "args": []}}
KNOBS = BlockKnobs(
    **made.CELL.columns, protocol=1, style="interactive", endpoint="completions", template=None, min_seconds=20,
    min_requests=8, warmup_requests=0, warmup_max_tokens=None, timeout_s=300,
)  # fmt: skip
WITH = MeasuredWith(server=ServedWith(spec=SPEC, vllm="0.32.0", source_id="d1e5"), knobs=KNOBS, prompts="aa")
PROBES = made.server("bf16").tokenizer
SAME: dict[str, Any] = {"measured_with": WITH, "host": HostLoad(cpus=8)}


def served(**changes: Any) -> MeasuredWith:
    return replace(WITH, server=replace(WITH.server, **changes))


def settings(**changes: Any) -> dict[str, Any]:
    return {"ready": {"settings": replace(made.server("bf16").settings, **changes)}}


def spec(**changes: Any) -> dict[str, Any]:
    return {"measured_with": served(spec={**SPEC, "settings": SPEC["settings"] | changes})}


CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    # key: (the new run, group, severity)
    "vllm": ({"ready": {"versions": Versions(vllm="0.33.0", torch="2.13.0")}}, "vllm", "fail"),
    "attention_backend": (settings(attention_backend="OTHER"), "vllm", "warn"),
    "gpu": ({"hardware": Hardware(names=("Other GPU",))}, "gpu", "fail"),
    "card": ({"hardware": replace(made.CARD, uuids=("GPU-7",))}, "gpu", "warn"),
    "driver": ({"hardware": replace(made.CARD, driver="571")}, "driver", "warn"),
    "cpus": ({"host": HostLoad(cpus=4)}, "gpu", "warn"),
    "weights": ({"measured_with": served(source_id="0b0b")}, "weights", "fail"),
    "made.seed": ({"measured_with": served(made={"seed": 2})}, "weights", "fail"),
    "tokenizer": ({"ready": {"tokenizer": replace(PROBES, probe_sha256="u")}}, "weights", "fail"),
    "templates": ({"ready": {"tokenizer": replace(PROBES, chat_probe_sha256="u")}}, "weights", "fail"),
    "prompts": ({"measured_with": replace(WITH, prompts="bb")}, "prompts", "fail"),
    "min_seconds": ({"measured_with": replace(WITH, knobs=replace(KNOBS, min_seconds=8))}, "protocol", "fail"),
    "protocol": ({"measured_with": replace(WITH, knobs=replace(KNOBS, protocol=2))}, "protocol", "fail"),
    "timeout_s": ({"measured_with": replace(WITH, knobs=replace(KNOBS, timeout_s=60))}, "protocol", "warn"),
    "max_num_seqs": (spec(max_num_seqs=32), "settings", "fail"),
    "env": (spec(env={"A": "2"}), "settings", "fail"),
    "enforce_eager": (settings(enforce_eager=True), "settings", "fail"),
    "kv_cache_dtype": (settings(kv_cache_dtype="fp8"), "settings", "fail"),
    "dtype": (settings(dtype="float16"), "settings", "fail"),
    "max_model_len": (settings(max_model_len=2048), "settings", "fail"),
    "prefix_caching": (settings(prefix_caching=True), "settings", "fail"),
    "speculative": (settings(speculative=True), "settings", "fail"),
}  # fmt: skip


def compared(new: dict[str, Any], *varies: str, **old: Any) -> TwoRuns:
    base = {**SAME, **settings(speculative=False, attention_backend="ONE")}
    kept = new.get("measured_with")
    if kept and kept.server.made:
        base["measured_with"] = served(made={"seed": 1})
    ready = {"ready": {**base["ready"], **new.get("ready", {})}}
    if "settings" in new.get("ready", {}):
        mine = new["ready"]["settings"]
        told = {k: getattr(mine, k) for k in Settings.__struct_fields__ if getattr(mine, k) is not None}
        ready["ready"]["settings"] = replace(base["ready"]["settings"], **told)
    models = {"bf16": STEADY}
    return compare_runs(
        facts(models, **{**base, **old}), facts(models, day=1, **{**base, **new, **ready}), varies=varies
    )


def test_runs_alike_differ_in_nothing():
    found = compared({})
    assert found.differences == ()
    assert found.outcome == "fine"


@pytest.mark.parametrize("key", CASES)
def test_a_difference_is_found_refuses_or_warns_and_may_be_declared(key):
    new, group, severity = CASES[key]
    [difference] = compared(new).differences
    assert (difference.key, difference.group, difference.severity) == (key, group, severity)
    assert difference.of == ("bf16",)
    assert not difference.declared
    codes = {row.code for row in compared(new).gated}
    assert codes == ({"invalid"} if severity == "fail" else {"equivalent"})
    for name in (key, group):
        found = compared(new, name)
        assert [d.declared for d in found.differences] == [True]
        assert {row.code for row in found.gated} == {"equivalent"}
        assert found.absent == ()


def test_a_refused_row_has_no_figures_and_names_what_differs():
    row = compared(CASES["gpu"][0]).gated[0]
    assert (row.ratio, row.old_value, row.blockers) == (None, None, ("gpu",))


def test_what_one_run_alone_knows_is_not_held_against_it():
    assert compared({"measured_with": None, "hardware": None, "host": HostLoad()}).differences == ()
    assert compared({}, hardware=None).differences == ()


def test_of_early_results_the_profile_tells_the_gpu():
    [difference] = compared({"hardware": None, "gpu": "other-gpu"}).differences
    assert (difference.key, difference.severity) == ("gpu", "fail")


def test_where_digests_are_unknown_sources_and_sizes_tell_models_apart():
    unknown = {"ready": {"source_id": None, "memory": Memory(weights_gib=3.0)}}
    unnamed = {"measured_with": None, "server": ServerFacts(started_unix=1.0)}
    one = facts({"bf16": STEADY}, **unnamed, **unknown)
    for other, said in (
        ({**unknown["ready"], "memory": Memory(weights_gib=14.0)}, "3.0 against 14.0 GiB"),
        ({**unknown["ready"], "source": "other"}, "made/bf16 against other"),
    ):
        found = compare_runs(one, facts({"bf16": STEADY}, day=1, **unnamed, ready=other))
        [difference] = found.differences
        assert difference.key == "weights"
        assert said in difference.detail


def test_a_server_that_is_not_what_it_claims_cannot_be_declared():
    fake = {"ready": {"quantization": Quantization(claimed="fp8", verified=False)}}
    found = compared(fake, "weights")
    refusing = [d for d in found.differences if d.refuses]
    assert [(d.key, d.group) for d in refusing] == [("not_quantized", "")]
    assert {row.code for row in found.gated} == {"invalid"}


def test_values_of_the_environment_are_told_to_nobody():
    [difference] = compared(CASES["env"][0]).differences
    assert difference.detail == "one value of A against another"


def test_declared_and_not_there_is_told():
    assert compared({}, "vllm", "gpu").absent == ("vllm", "gpu")


def test_a_difference_of_one_cell_refuses_that_cell():
    found = compared(CASES["prompts"][0])
    assert found.differences[0].of == ("bf16",)
    cells = [made.CELL, runs.CHAT]
    old, new = (
        [facts({"bf16": STEADY}, day, cell=cell, **SAME | changes) for cell, changes in zip(cells, each, strict=True)]
        for day, each in ((0.0, ({}, {})), (1.0, ({}, {"measured_with": replace(WITH, prompts="bb")})))
    )
    joined = [made.RunFacts("x", [b for one in some for b in one.blocks], some[0].ready, "bf16") for some in (old, new)]
    found = compare_runs(*joined)
    assert found.differences[0].of == (f"bf16 {runs.CHAT.key}",)
    assert {row.cell for row in found.gated if row.code == "invalid"} == {runs.CHAT}


def test_every_guard_of_a_pair_has_its_key_its_group_or_its_reason():
    pair = {guard.id for guard in GUARDS if guard.scope == "pair"}
    assert set(_OF_GUARD) | set(_NEVER) | {"fingerprint_drift"} == pair
    assert all(group_of(key) for key in _OF_GUARD.values())


def test_names_that_declare_nothing_are_known():
    assert unknown_names(["vllm", "max_num_seqs", "made.seed", "sorcery"]) == ["sorcery"]
    assert all(group_of(key) == group for group, keys in GROUPS.items() for key in keys)
