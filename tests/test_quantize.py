"""Growing and quantizing, run in the environment of vLLM on a model of a few hundred weights."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from quantbench.observe import checkpoint
from quantbench.serving.model_source import weight_files

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-vllm/bin/python"
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON.exists(), reason="the vLLM environment is not set up"),
]
SAME_LOGITS = """
import sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
a, b = (AutoModelForCausalLM.from_pretrained(p, dtype=torch.bfloat16).eval() for p in sys.argv[1:])
ids = torch.arange(60)[None] + 100
with torch.no_grad():
    first, second = a(ids).logits.float(), b(ids).logits.float()
same = (first.argmax(-1) == second.argmax(-1)).float().mean().item()
print("differs by", (first - second).abs().max().item(), "agrees", same)
"""


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PYTHON), *map(str, argv)], capture_output=True, text=True, cwd=ROOT, check=False)


def grow(out: Path, size: int) -> subprocess.CompletedProcess[str]:
    return run("workflow/demo/grow.py", "data/demo-model", out, "--intermediate-size", size)


def rtn(source: Path | str, out: Path, scheme: str, group: int = 128) -> subprocess.CompletedProcess[str]:
    return run("workflow/quantizers/rtn.py", source, "--scheme", scheme, "--group-size", group, out)


def test_a_grown_model_computes_the_same(tmp_path: Path) -> None:
    assert grow(tmp_path / "big", 1024).returncode == 0
    assert checkpoint.config(tmp_path / "big")["intermediate_size"] == 1024
    done = run("-c", SAME_LOGITS, "data/demo-model", tmp_path / "big")
    assert "differs by" in done.stdout, done.stderr
    # The sums over more (zero) terms may be split differently, so a last bit of BF16 may move.
    assert float(done.stdout.split()[2]) < 0.1
    assert float(done.stdout.split()[4]) == 1.0


def test_a_model_cannot_shrink(tmp_path: Path) -> None:
    done = grow(tmp_path / "small", 256)
    assert done.returncode != 0
    assert "below the model's own 512" in done.stderr


@pytest.mark.parametrize(
    ("scheme", "dtype", "bits", "share"),
    [("W8A8", "I8", 8, 0.65), ("W4A16", "I32", 4, 0.45), ("FP8_DYNAMIC", "F8_E4M3", 8, 0.65)],
)
def test_a_quantized_copy_is_quantized(tmp_path: Path, scheme: str, dtype: str, bits: int, share: float) -> None:
    done = rtn("data/demo-model", tmp_path / "q", scheme)
    assert done.returncode == 0, done.stderr
    group = checkpoint.config(tmp_path / "q")["quantization_config"]["config_groups"]["group_0"]
    assert group["weights"]["num_bits"] == bits
    tensors = checkpoint.tensors(tmp_path / "q") or {}
    assert any(kind == dtype for name, (kind, _) in tensors.items() if "down_proj.weight" in name)
    folders = (ROOT / "data/demo-model", tmp_path / "q")
    full, small = (sum(path.stat().st_size for path in weight_files(folder)) for folder in folders)
    assert 0 < small < share * full
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "q" / name).read_bytes() == (ROOT / "data/demo-model" / name).read_bytes()


def test_a_group_size_that_does_not_fit_is_named(tmp_path: Path) -> None:
    done = rtn("data/demo-model", tmp_path / "q", "W4A16", 96)
    assert done.returncode != 0
    assert "group size 96 does not divide" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    done = rtn(tmp_path / "absent", tmp_path / "q", "W8A8")
    assert done.returncode != 0
    assert "absent" in done.stderr
    assert "Traceback" not in done.stderr
