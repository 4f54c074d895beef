"""The damaged copies that quality suites are tried on: each kind touches what it says, and a permuted copy nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from source import ROOT, VLLM_PYTHON, needs_vllm

pytestmark = needs_vllm
CHANGED = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import load_file
sys.path.insert(0, "tests")
import damage
source, out = Path("data/demo-model"), Path(sys.argv[1])
before = load_file(source / "model.safetensors")
changed = {}
for kind in sys.argv[2:]:
    damage.copy(kind, source, out / kind)
    after = load_file(out / kind / "model.safetensors")
    same_size = all(after[name].shape == tensor.shape for name, tensor in before.items())
    changed[kind] = [name for name, tensor in before.items() if not torch.equal(after[name], tensor)] * same_size
    down = "model.layers.1.mlp.down_proj.weight"
    changed[kind + " sd"] = (after[down].float() - before[down].float()).std().item()
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
load = lambda folder: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = torch.arange(60)[None] + 100
with torch.no_grad():
    logits = load(source)(ids).logits
    apart = {kind: (logits - load(out / kind)(ids).logits).abs().max().item() for kind in ("permute", "zero:1")}
changed["apart"] = apart
print("RESULT", json.dumps(changed))
"""
KINDS = ("rows:1", "shuffle:1", "zero:1", "head:1", "noise:1", "noise:4", "permute")


def test_each_kind_of_damage_is_what_it_says(tmp_path: Path) -> None:
    command = [str(VLLM_PYTHON), "-c", CHANGED, str(tmp_path), *KINDS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "RESULT" in done.stdout, done.stderr
    made = json.loads(done.stdout.split("RESULT")[1])
    assert {name.split(".")[1] for name in made["rows:1"]} <= {"embed_tokens", "weight"}
    assert made["rows:1"]
    for kind in ("shuffle:1", "zero:1", "head:1"):
        assert made[kind]
        assert all(name.startswith("model.layers.1.") for name in made[kind])
    assert len(made["zero:1"]) == 2
    assert len(made["head:1"]) == 1
    assert all(".mlp." in name for name in made["permute"])
    assert made["permute"]
    assert made["noise:4 sd"] == pytest.approx(4 * made["noise:1 sd"], rel=0.1)
    assert made["apart"]["permute"] < 1e-3 < made["apart"]["zero:1"]
