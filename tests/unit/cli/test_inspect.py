"""quantbench inspect: from folders, the hub's cache, profiles and configurations, without reading a weight."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf_file import Q4_K, Q8_0, gguf
from quantbench.cli.main import main
from quantbench.observe import cards, gpu

ROOT = Path(__file__).parents[3]
LOGS = ROOT / "tests/data/logs"
QWEN_1_5B: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "vocab_size": 151936, "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
WIDTHS = {"self_attn.q_proj": (1536, 1536), "self_attn.k_proj": (256, 1536), "self_attn.v_proj": (256, 1536),
          "self_attn.o_proj": (1536, 1536), "mlp.gate_proj": (8960, 1536), "mlp.up_proj": (8960, 1536),
          "mlp.down_proj": (1536, 8960)}  # fmt: skip


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "available", list)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def checkpoint(folder: Path, stated: dict[str, Any] | None = None, *, plain: bool = False) -> Path:
    """Qwen2.5-1.5B's files in BF16, or in AWQ's layout, as one sparse file: headers, and a hole for the weights."""
    tensors: dict[str, tuple[str, list[int]]] = {"model.embed_tokens.weight": ("BF16", [151936, 1536])}
    for layer in range(28):
        for name, (outputs, inputs) in WIDTHS.items():
            module = f"model.layers.{layer}.{name}"
            if stated and not plain:
                tensors[f"{module}.qweight"] = ("I32", [inputs, outputs // 8])
                tensors[f"{module}.qzeros"] = ("I32", [inputs // 128, outputs // 8])
                tensors[f"{module}.scales"] = ("F16", [inputs // 128, outputs])
            else:
                tensors[f"{module}.weight"] = ("BF16", [outputs, inputs])
    header, place = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = shape[0] * shape[1] * (4 if dtype == "I32" else 2)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)
    config = QWEN_1_5B | ({"quantization_config": stated} if stated else {})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["inspect", *words]) == 0
    return capsys.readouterr().out


def found(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(said(capsys, *words, "--json"))
    return entries


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["inspect", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 2, "one line, and its remedy"
    return error


def test_a_folder_of_two_gib_of_weights_is_counted_from_its_headers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "bf16")
    assert (folder / "model.safetensors").stat().st_blocks * 512 < 100_000, "there are no weights to read"
    text = said(capsys, str(folder), "--gpu", "4090", "--length", "2048")
    for words in (
        "no quantization", "headers of its files", "28.0 KiB a token", "compute capability 8.9", "BF16: native",
        "requests of 2,048 tokens",
    ):  # fmt: skip
        assert words in text
    long = said(capsys, str(folder), "--gpu", "4090", "--length", "32768")
    assert "requests of 32,768 tokens" in long
    assert "warning" not in long, "a limit that nobody has set is none"
    assert "vLLM will not start: one request" in said(capsys, str(folder), "--vram", "6", "--length", "999999")
    (entry,) = found(capsys, str(folder), "--gpu", "4090", "--length", "2048")
    assert entry["weights_gib"] == pytest.approx(2.875, abs=0.002)
    assert entry["fit"]["concurrency"] == pytest.approx(entry["fit"]["kv_gib"] * 2**30 / 28672 / 2048)
    assert entry["warnings"] == []


def test_a_hub_id_is_found_in_the_cache_and_its_groups_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "hub/models--org--awq"
    checkpoint(repository / "snapshots/abc", AWQ)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    (entry,) = found(capsys, "org/awq", "--gpu", "h100-80gb")
    assert entry["claim"]["label"] == "W4A16"
    bits = {part["name"]: part["bits"] for part in entry["parts"]}
    assert bits["attention"] == bits["MLP"] == pytest.approx(4.156, abs=0.001)
    assert bits["embeddings"] == 16
    assert entry["weights_gib"] == pytest.approx(1.07, abs=0.01)
    assert entry["kernels"][0]["words"] == "Machete, else Marlin"
    assert "host-bound: the card is too fast for this model" in entry["warnings"][0]
    assert [load["bound"] for load in entry["decode"]] == ["host"] * 3
    assert entry["step_ms"] == entry["decode"][0]["floor_ms"]
    text = said(capsys, "org/awq", "--gpu", "h100-80gb")
    assert "decode     will be bound by host, 0.347 ms a step at least (at 1 in flight) to 0.623 (at 64)" in text


def test_files_that_contradict_the_claim_are_a_warning_before_any_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, str(checkpoint(tmp_path / "m", AWQ, plain=True)), "--vram", "22")
    assert "100% of what config.json: quantization_config calls quantized is stored in 16 bit" in text
    (entry,) = found(capsys, str(tmp_path / "m"), "--vram", "22")
    assert entry["weights_gib"] == pytest.approx(2.875, abs=0.002), "what is stored, not what is said"


@pytest.mark.parametrize(
    ("log", "stated", "flag", "outcome"),
    [
        ("h100-vllm-0.26.0-awq", AWQ, (), "verified"),
        ("h200-vllm-0.26.0-fp8", None, ("--quantization", "fp8"), "verified"),
        ("h200-vllm-0.26.0-bf16", AWQ, (), "contradicted"),
    ],
)
def test_a_log_adds_what_was_said_and_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], log: str, stated: Any, flag: tuple[str, ...], outcome: str
) -> None:
    folder = checkpoint(tmp_path / "m", stated)
    words = (str(folder), "--log", str(LOGS / f"{log}.log"), "--vram", "80", *flag)
    (entry,) = found(capsys, *words)
    assert entry["log"]["outcome"] == outcome
    assert entry["log"]["kv_tokens"] > 0
    text = said(capsys, *words)
    assert f"verdict    {outcome}" in text
    assert ("remedy" in text) == (outcome == "contradicted")


def test_a_profile_is_inspected_before_anything_is_fetched_and_for_its_card(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = found(capsys, "b200-180gb")
    assert [entry["model"] for entry in entries] == ["bf16", "fp8", "nvfp4"]
    assert {entry["basis"] for entry in entries} == {"shape"}
    assert {entry["gpu"]["name"] for entry in entries} == {"NVIDIA B200"}
    assert [entry["kernels"][0]["outcome"] for entry in entries] == ["native"] * 3
    assert len({entry["kv_bytes_per_token"] for entry in entries}) == 1, "one KV cache type for all"
    on_another = found(capsys, "b200-180gb", "--gpu", "h100-80gb")
    assert on_another[2]["kernels"][0]["outcome"] == "weight-only"
    assert "does not fit" in on_another[0]["warnings"][0]


def test_models_of_a_configuration_by_name_and_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(tmp_path / "awq", AWQ)
    mine = tmp_path / "my.yaml"
    mine.write_text(json.dumps({
        "gpu": "rtx4090-24gb",
        "models": {"bf16": {"source": "Qwen/Qwen2.5-1.5B-Instruct"}, "int8": {"quantize": {"from": "bf16"}},
                   "awq": {"source": str(folder), "quantization": "awq"}},
        "workloads": {"chat": {"prompts": "config/prompts/chat.jsonl", "concurrency": [1], "max_tokens": [8]}},
    }))  # fmt: skip
    (entry,) = found(capsys, "awq", "--configfile", "my.yaml")
    assert (entry["model"], entry["basis"], entry["share"]) == ("awq", "headers", 0.77)
    assert entry["gpu"]["name"] == "NVIDIA GeForce RTX 4090"
    assert "bf16, int8, awq" in refused(capsys, "w8", "--configfile", "my.yaml")
    assert main(["inspect", "--configfile", "my.yaml"]) == 2, "one cannot be inspected"
    printed = capsys.readouterr()
    assert "models.int8 is made by the run" in printed.err
    assert "bf16: Qwen/Qwen2.5-1.5B-Instruct" in printed.out
    assert f"awq: {folder}" in printed.out
    log = str(LOGS / "h100-vllm-0.26.0-awq.log")
    assert "longer than its max_model_len 4096" in said(capsys, "h100-80gb", "--length", "5000")
    assert "quantize_flag" in refused(capsys, "h100-80gb", "--quantization", "fp8")
    assert "--log is of one model" in refused(capsys, "a100-80gb", "--log", log)


@pytest.mark.fault(
    "`inspect` of a model that is not here, or damaged", "one line that names it, and the command that gets it"
)
def test_what_is_not_here_or_damaged_is_one_line_with_its_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, "org/model")
    assert "'org/model' is neither a folder here nor in the hub cache" in error
    assert "hf download org/model" in error
    assert "models." not in error, "no key of a configuration"
    assert "did you mean 'h200-141gb'?" in refused(capsys, "h200")
    folder = checkpoint(tmp_path / "m")
    weights = folder / "model.safetensors"
    whole = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(whole - 1)
    assert f"is cut short: {whole - 1} bytes of {whole}" in refused(capsys, str(folder))
    weights.write_bytes(b"x" * 100)
    assert "header is damaged" in refused(capsys, str(folder))
    weights.unlink()
    assert main(["inspect", str(folder)]) == 0, "a config alone, as one has before a download, is counted by arithmetic"
    checkpoint(tmp_path / "n")
    (tmp_path / "n/config.json").write_text("[1]")
    assert "no JSON object" in refused(capsys, str(tmp_path / "n"))
    (tmp_path / "n/config.json").unlink()
    assert "has no config.json" in refused(capsys, str(tmp_path / "n"))
    assert "is a file" in refused(capsys, str(tmp_path / "n/model.safetensors"))
    assert "cannot be read" in refused(capsys, str(checkpoint(tmp_path / "o")), "--log", "no.log")
    assert "no MODEL is named" in refused(capsys)


def test_a_card_that_may_be_two_or_none_is_refused_and_one_that_is_unknown_needs_its_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(checkpoint(tmp_path / "m"))
    assert "h100-80gb, h100-nvl-94gb" in refused(capsys, folder, "--gpu", "H100")
    assert "none of t4-16gb" in refused(capsys, folder, "--gpu", "mi300x")
    text = said(capsys, folder, "--vram", "11.5")
    assert "kernels    not known" in text
    assert "none is here and none is named" in said(capsys, folder)
    here = {"index": 0, "name": "NVIDIA L40S", "total_mib": 46068, "driver": "1", "uuid": None}
    monkeypatch.setattr(gpu, "available", lambda: [here])
    assert "NVIDIA L40S: 44.4 GiB for CUDA, compute capability 8.9" in said(capsys, folder)
    here["name"] = "NVIDIA Next"
    assert "NVIDIA Next: 44.4 GiB for CUDA" in said(capsys, folder)


def test_a_model_that_the_arithmetic_does_not_know_is_undecided_and_not_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"mamba_d_state": 16, "model_type": "new"}
    (folder / "config.json").write_text(json.dumps(config))
    text = said(capsys, str(folder), "--gpu", "l4")
    assert "KV cache undecided: it has layers with a state beside attention (mamba_d_state)" in text
    assert "left for KV" in text, "weights are counted all the same"
    (entry,) = found(capsys, str(folder), "--gpu", "l4")
    assert (entry["kv_bytes_per_token"], entry["fit"]["concurrency"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("l4", ["l4-24gb"]), ("L40S", ["l40s-48gb"]), ("RTX 4090", ["rtx4090-24gb"]), ("4090", ["rtx4090-24gb"]),
        ("NVIDIA H200", ["h200-141gb"]), ("b200", ["b200-180gb"]), ("rtx pro 6000", ["rtx-pro-6000-96gb"]),
        ("a100", ["a100-40gb", "a100-80gb"]), ("nothing", []),
    ],
)  # fmt: skip
def test_cards_are_found_by_what_people_call_them(text: str, keys: list[str]) -> None:
    assert [card.key for card in cards.find(text)] == keys


def test_every_card_is_found_by_nvmls_own_name() -> None:
    for card in cards.CARDS:
        assert cards.of_device(card.name, card.memory_mib) == card
        assert cards.find(card.key) == (card,)
    names = {"NVIDIA H100 PCIe": 81559, "NVIDIA A100 80GB PCIe": 81920, "NVIDIA L4": 23034,
             "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": 97887, "NVIDIA A100-SXM4-40GB": 40960}  # fmt: skip
    found = [cards.of_device(name, mib) for name, mib in names.items()]
    assert [card and card.key for card in found] == [
        "h100-80gb", "a100-80gb", "l4-24gb", "rtx-pro-6000-96gb", "a100-40gb",
    ]  # fmt: skip
    assert cards.of_device("NVIDIA GeForce RTX 4090 D", 49140) is None, "another memory, another card"
    assert cards.of_device(None, None) is None


def test_it_starts_without_heavy_libraries(tmp_path: Path) -> None:
    code = (
        "import sys; from quantbench.cli.main import main\n"
        f"main(['inspect', {str(checkpoint(tmp_path / 'm'))!r}, '--gpu', 'l4'])\n"
        "heavy = {'polars', 'scipy', 'numpy', 'aiohttp', 'snakemake', 'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'heavy: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "workflow", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_gguf_file_is_counted_from_its_header_in_parts_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"general__architecture": "llama", "llama__block_count": 2, "llama__embedding_length": 256,
             "llama__attention__head_count": 4, "llama__attention__head_count_kv": 2}  # fmt: skip
    tensors = {"token_embd.weight": ((512, 256), Q8_0), "output.weight": ((512, 256), Q8_0)}
    blocks = [{f"blk.{n}.{m}.weight": ((256, 256), Q4_K) for m in ("attn_q", "ffn_up")} for n in range(2)]
    whole, parts = tmp_path / "m.gguf", [tmp_path / f"m-{n:05d}-of-00002.gguf" for n in (1, 2)]
    whole.write_bytes(gguf(tensors | blocks[0] | blocks[1], **sizes))
    parts[0].write_bytes(gguf(tensors | blocks[0], split__count=2, **sizes))
    parts[1].write_bytes(gguf(blocks[1], split__count=2))
    entries = [found(capsys, str(file), "--gpu", "l4")[0] for file in (whole, parts[0])]
    for entry in entries:
        held = {part["name"]: (part["weights"], part["bits"]) for part in entry["parts"]}
        assert held["attention"] == (2 * 256 * 256, 4.5)
        assert held["MLP"] == (2 * 256 * 256, 4.5)
        assert held["lm_head"] == (512 * 256, 8.5)
        assert entry["basis"] == "headers"
        assert entry["kv_bytes_per_token"] == 2 * 2 * 64 * 2 * 2
        assert "vllm-gguf-plugin" in entry["kernels"][0]["words"]
        assert any("a GGUF file: since 0.24" in warning for warning in entry["warnings"])
    parts[1].unlink()
    assert "is one of 2 parts, of which m-00002-of-00002.gguf is missing" in refused(capsys, str(parts[0]))
    whole.write_bytes(whole.read_bytes()[:-10])
    assert "is cut short" in refused(capsys, str(whole))


def test_a_log_of_a_failed_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, log = str(checkpoint(tmp_path / "m")), tmp_path / "server.log"
    log.write_text("(EngineCore pid=7) ERROR 12-01 09:00:10 [core.py:8] torch.OutOfMemoryError: CUDA out of memory.\n")
    text = said(capsys, folder, "--log", str(log))
    assert "failed     out of memory" in text
    assert "remedy     lower max_model_len" in text
    (entry,) = found(capsys, folder, "--log", str(log))
    assert entry["log"]["failure"] == "out of memory"
    healthy = str(LOGS / "cuda-0.26.0-bf16.log")
    assert found(capsys, folder, "--log", healthy)[0]["log"]["failure"] is None


def test_a_revision_is_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for commit, ref in (("a" * 40, "main"), ("b" * 40, "dev")):
        cache = tmp_path / "hub/models--org--m"
        (cache / "refs").mkdir(parents=True, exist_ok=True)
        (cache / "refs" / ref).write_text(commit)
        checkpoint(cache / "snapshots" / commit)
    assert f"snapshots/{'a' * 40} " in said(capsys, "org/m")
    assert f"snapshots/{'b' * 40} " in said(capsys, "org/m", "--revision", "dev")
    assert f"snapshots/{'b' * 40} " in said(capsys, "org/m", "--revision", "b" * 40)
    assert "(revision no)" in refused(capsys, "org/m", "--revision", "no")
    assert "x" * 80 in refused(capsys, "x" * 5000)
