"""benchmarks/reference_gpu/pack.sh: what it would pack, and its errors. Nothing is downloaded here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pack(*words: str) -> subprocess.CompletedProcess[str]:
    line = [str(ROOT / "benchmarks/reference_gpu/pack.sh"), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def listed(*words: str) -> dict[str, str]:
    done = pack("--python", sys.executable, "--list", *words)
    assert done.returncode == 0, done.stderr
    return {line.partition("==")[0]: line for line in done.stdout.splitlines()}


def test_each_package_once_with_the_pin_of_vllm_first() -> None:
    vllm, pipeline, both = listed("vllm"), listed("pipeline"), listed()
    assert set(both) == set(vllm) | set(pipeline)
    assert {"vllm", "torch"} <= set(vllm)
    assert {"snakemake", "polars"} <= set(pipeline)
    assert all(both[name] == line for name, line in vllm.items())


def test_what_the_host_has_is_left_out_however_it_is_spelt(tmp_path: Path) -> None:
    have = tmp_path / "have.txt"
    have.write_text("torch==2.11.0+cu130\nNVIDIA_cublas==1\ntriton @ file:///x.whl\n")
    gone = set(listed()) - set(listed("--have", str(have)))
    assert gone == {"torch", "nvidia-cublas", "triton"}


def test_help_is_the_head_of_the_script() -> None:
    text = pack("--help").stdout
    assert "--have FILE" in text
    assert "sha256sum -c" in text
    assert "pipefail" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense"], "--nonsense"),
        (["--have", "/nope"], "/nope"),
        (["--python", "/nope"], "/nope"),
        (["--out"], "--out"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(words: list[str], said: str) -> None:
    done = pack(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "remedy: " in done.stderr
