"""Growing and quantizing, run in the environment of vLLM on a model of a few hundred weights."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from quantbench.observe import checkpoint
from quantbench.serving.model_source import weight_files
from source import ROOT, VLLM_PYTHON, needs_vllm

pytestmark = needs_vllm
DEMO = "data/demo-model"
Done = subprocess.CompletedProcess[str]
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


def run(*argv: object) -> Done:
    return subprocess.run([str(VLLM_PYTHON), *map(str, argv)], capture_output=True, text=True, cwd=ROOT, check=False)


def grow(out: Path, size: int) -> Done:
    return run("workflow/demo/grow.py", DEMO, out, "--intermediate-size", size)


def rtn(out: Path, scheme: str, group: int = 128, source: str = DEMO) -> Done:
    return run("workflow/quantizers/rtn.py", source, "--scheme", scheme, "--group-size", group, out)


def test_a_grown_model_computes_the_same(tmp_path: Path) -> None:
    assert grow(tmp_path / "big", 1024).returncode == 0
    assert checkpoint.config(tmp_path / "big")["intermediate_size"] == 1024
    done = run("-c", SAME_LOGITS, DEMO, tmp_path / "big")
    assert "differs by" in done.stdout, done.stderr
    # The sums over more (zero) terms may be split differently, so a last bit of BF16 may move.
    assert float(done.stdout.split()[2]) < 0.1
    assert float(done.stdout.split()[4]) == 1.0


@pytest.mark.parametrize(
    ("scheme", "dtype", "bits", "share"),
    [("W8A8", "I8", 8, 0.65), ("W4A16", "I32", 4, 0.45), ("FP8_DYNAMIC", "F8_E4M3", 8, 0.65)],
)
def test_a_quantized_copy_is_quantized(tmp_path: Path, scheme: str, dtype: str, bits: int, share: float) -> None:
    done = rtn(tmp_path / "q", scheme)
    assert done.returncode == 0, done.stderr
    group = checkpoint.config(tmp_path / "q")["quantization_config"]["config_groups"]["group_0"]
    assert group["weights"]["num_bits"] == bits
    tensors = checkpoint.tensors(tmp_path / "q") or {}
    assert any(kind == dtype for name, (kind, _) in tensors.items() if "down_proj.weight" in name)
    folders = (ROOT / DEMO, tmp_path / "q")
    full, small = (sum(path.stat().st_size for path in weight_files(folder)) for folder in folders)
    assert 0 < small < share * full
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "q" / name).read_bytes() == (ROOT / DEMO / name).read_bytes()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda out: grow(out, 256), "below the model's own 512"),
        (lambda out: rtn(out, "W4A16", 96), "group size 96 does not divide"),
        (lambda out: rtn(out, "W8A8", source=str(out.parent / "absent")), "absent"),
    ],
)
def test_what_cannot_be_made_is_named(tmp_path: Path, make: Callable[[Path], Done], words: str) -> None:
    done = make(tmp_path / "out")
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
