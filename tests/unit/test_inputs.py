"""What a run reads is looked into when the plan is made: each fault names its key and its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from quantbench import inputs
from quantbench.config.configuration import make_plan, needed_files
from quantbench.config.schema import deep_merge
from quantbench.errors import QuantbenchError
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
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("{}")
    (tmp_path / "mine/model.safetensors").write_bytes(no_tensors(64))
    return tmp_path


def check(home: Path, **changes: Any) -> list[str]:
    config = {
        "models": {
            "bf16": {"source": "./mine", "port": 8000},
            "awq": {"source": "org/not-here-AWQ", "quantization": "awq", "port": 8001},
            "int8": {"quantize": {"from": "bf16"}, "port": 8002},
        },
        "workloads": {"chat": {"prompts": "p.jsonl", "concurrency": [1, 8], "max_tokens": [128]}},
        "quality": {"prompts": "q.jsonl"},
    }
    return inputs.check(make_plan(deep_merge(config, changes), SCHEMA), home)


def test_a_good_plan_passes_and_hub_models_and_models_made_here_are_left_to_their_jobs(home: Path) -> None:
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
        made.touch()
    assert check(home, select=select, baseline=select[0]) == [], "results can be looked at where the model is not"


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
    models = {"never_served": {"source": str(home / "mine"), "port": 8999}}
    mine = {"models": models, "select": ["bf16", "never_served"]}
    (home / "my.yaml").write_text(yaml.safe_dump(mine))
    line = ["-m", "snakemake", "-n", "--cores", "1", "--configfile", str(home / "my.yaml"), "--config", "gpu=cpu"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QUANTBENCH_")}
    done = subprocess.run([sys.executable, *line], cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"models.never_served.source: {home / 'mine'} has no config.json" in said
    assert "Building DAG" not in said


def test_a_hub_snapshot_of_links_that_lead_nowhere_is_named_before_any_job(home: Path, monkeypatch: Any) -> None:
    repository = home / "hub/models--org--not-here-AWQ"
    (repository / "snapshots/abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    (repository / "snapshots/abc/config.json").symlink_to("../../blobs/not-copied")
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    with pytest.raises(QuantbenchError, match=r"models\.awq\.source: .*config\.json is a link") as caught:
        check(home)
    assert "hf download org/not-here-AWQ" in caught.value.remedy
