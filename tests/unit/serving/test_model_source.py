"""Where a model's files are, and what is said of those that are damaged or missing."""

from __future__ import annotations

import json

import pytest
from quantbench.errors import QuantbenchError
from quantbench.serving import identity, model_source
from servers import changed, fake_spec, no_tensors, own_home


@pytest.fixture
def home(tmp_path, monkeypatch):
    with own_home(tmp_path, monkeypatch) as folder:
        yield folder


def cached(home, commit, ref):
    """An empty snapshot of org/name in a hub's cache."""
    repository = home / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / ref).write_text(commit)
    return snapshot


def tensor(size):
    """A safetensors file with one tensor of `size` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def test_hub_models_are_found_in_the_cache(home):
    snapshot = cached(home, "abc", ref="main")
    (snapshot / "config.json").write_text("{}")
    spec = fake_spec(home, source="org/name", env={"HF_HUB_CACHE": str(home / "hub")})
    with pytest.raises(QuantbenchError, match="has no weights") as caught:
        model_source.check_source(spec)
    assert "hf download org/name" in caught.value.remedy
    (snapshot / "model.safetensors").write_bytes(no_tensors(2**20))
    model_source.check_source(spec)
    assert model_source.checkpoint_mib(spec) == 1.0


def test_the_snapshot_is_the_one_that_the_revision_names_and_not_the_newest(home):
    main, newer = cached(home, "abc", ref="main"), cached(home, "def", ref="experiment")
    spec = fake_spec(home, source="org/name", env={"HF_HUB_CACHE": str(home / "hub")})
    assert model_source.find_source(spec) == main
    for args in (["--revision", "experiment"], ["--revision=def"]):
        assert model_source.find_source(changed(spec, args=args)) == newer
    gone = changed(spec, args=["--revision", "v2"])
    with pytest.raises(QuantbenchError, match=r"nor in the hub cache .* \(revision v2\)") as caught:
        model_source.check_source(gone)
    assert "hf download org/name --revision v2" in caught.value.remedy


@pytest.mark.fault("a hub cache whose links lead nowhere", "the file and its `hf download` line")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_snapshot_of_links_that_lead_nowhere_is_named_with_its_download(home, name):
    snapshot = cached(home, "abc", ref="main")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(no_tensors(64))
    (snapshot / name).unlink(missing_ok=True)
    (snapshot / name).symlink_to("../../blobs/not-copied")
    (snapshot / "README.md").symlink_to("../../blobs/not-copied-either")  # no server reads it
    spec = fake_spec(home, source="org/name", env={"HF_HUB_CACHE": str(home / "hub")})
    with pytest.raises(QuantbenchError, match=f"{name} is a link to a file that is not there") as caught:
        model_source.check_source(spec)
    assert "hf download org/name" in caught.value.remedy
    for look in (model_source.checkpoint_mib, identity.source_id):
        look(spec)  # no traceback where results are looked at
    (snapshot / name).unlink()
    (snapshot / name).write_bytes(no_tensors(64) if name.endswith("safetensors") else b"{}")
    model_source.check_source(spec)


DAMAGED = {
    "empty": (b"", "is no safetensors file"),
    "no header": (b"weights, but of another kind", "is no safetensors file"),
    "a list for a header": (b"\2\0\0\0\0\0\0\0[]", "is no safetensors file"),
    "cut in the header": (no_tensors(64)[:9], "is no safetensors file"),
    "cut in a tensor": (tensor(16)[:-1], "is cut short: 85 bytes of 86"),
    "too long": (tensor(16) + b"x", "has 1 bytes that belong to no tensor"),
}


@pytest.mark.fault("a weights file is cut, longer than it says, or none", "named before a server starts")
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_weights_are_named_before_a_server_starts(home, damage):
    spec = fake_spec(home)
    second = home / "models/alpha/second.safetensors"
    second.write_bytes(tensor(16))
    model_source.check_source(spec)
    content, words = DAMAGED[damage]
    second.write_bytes(content)
    with pytest.raises(QuantbenchError) as caught:
        model_source.check_source(spec)
    assert caught.value.what.startswith("models.alpha.source: ")
    assert f"second.safetensors {words}" in caught.value.what
    model_source.check_source(changed(spec, load_format="dummy"))


def test_a_broken_model_that_was_made_here_is_made_again_by_removing_it(home):
    spec = fake_spec(home)
    (home / "models/alpha/provenance.json").write_text("{}")
    (home / "models/alpha/model.safetensors").unlink()
    with pytest.raises(QuantbenchError, match="has no weights") as caught:
        model_source.check_source(spec)
    assert caught.value.remedy == f"remove the folder {home / 'models/alpha'} and run again"
