"""Where a model's files are, and what is said of those that are damaged or missing."""

from __future__ import annotations

import json

import pytest
from quantbench.engines.choose import engine_of
from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint
from quantbench.records.base import write
from quantbench.records.server import Provenance, Revision, Unpacked
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


def test_a_broken_model_that_was_made_here_is_made_again_by_removing_it(home, monkeypatch):
    fake_spec(home)
    (home / "models/cpu").mkdir()
    folder = (home / "models/alpha").rename(home / "models/cpu/alpha")
    (folder / "provenance.json").write_text("{}")
    (folder / "model.safetensors").unlink()
    monkeypatch.chdir(home)
    spec = fake_spec(None, source="models/cpu/alpha")
    for own, remedy in ((False, "remove the folder models/cpu/alpha and run again"), (True, COPY)):
        with pytest.raises(QuantbenchError, match="has no weights") as caught:
            model_source.check_source(spec, own=own)
        assert caught.value.remedy == remedy


COPY = "copy the model again, or correct models.alpha.source"
POINTER = b"version https://git-lfs.github.com/spec/v1\n"


@pytest.mark.fault("a copy of a model is damaged", "the remedy is for that damage, and never to remove the copy")
@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [("config.json", b"\xef\xbb\xbf{}", "as plain JSON, without byte order mark (BOM) or comments"),
     ("config.json", b"{} // mine", "as plain JSON, without byte order mark (BOM) or comments"),
     ("config.json", b"", "copy config.json again"),
     ("config.json", POINTER, "git lfs pull"),
     ("model-00002-of-00003.safetensors", POINTER, "git lfs pull"),
     ("model.safetensors.index.json", POINTER, "git lfs pull"),
     ("model-00002-of-00003.safetensors", None, "copy model-00002-of-00003.safetensors again"),
     ("model-00003-of-00003.safetensors", b"cut", "copy model-00003-of-00003.safetensors again")],
)  # fmt: skip
def test_a_damaged_copy_of_a_made_model_is_mended_by_its_kind_of_damage(home, name, content, remedy):
    folder = sharded(home / "copy")
    (folder / "provenance.json").write_text("{}")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(QuantbenchError) as caught:
        model_source.check_source(fake_spec(None, source=str(folder)))
    assert remedy in caught.value.remedy
    assert "remove" not in caught.value.remedy


COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARDS = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]


def sharded(folder):
    """A whole checkpoint of three shards of 64 bytes, with its index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    for name in SHARDS:
        (folder / name).write_bytes(no_tensors(64))
    named = {f"layer.{n}": name for n, name in enumerate(SHARDS)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))
    return folder


def mib(*files):
    return round(sum(path.stat().st_size for path in files) / 2**20, 2)


@pytest.mark.parametrize("index", [True, False])
def test_only_what_belongs_to_the_checkpoint_is_counted_and_looked_into(home, index):
    folder = sharded(home / "models/alpha")
    if not index:
        (folder / "model.safetensors.index.json").unlink()
    (folder / "original").mkdir()
    beside = [
        "consolidated.safetensors", "consolidated.00.pth", "training_args.bin", "optimizer.bin", "optimizer.pt",
        "model.bin", "original/consolidated.00.pth", "model.fp16-00001-of-00002.safetensors", "old.gguf",
    ]  # fmt: skip
    for name in beside:
        (folder / name).write_bytes(b"no weights at all" * 2**16)
    (folder / "scheduler.pt").symlink_to("nowhere")
    spec = fake_spec(None, source=str(folder))
    model_source.check_source(spec)
    assert model_source.weight_files(folder) == [folder / name for name in SHARDS]
    before = identity.source_id(spec)
    (folder / "optimizer.bin").unlink()
    assert identity.source_id(spec) == before


def test_weights_in_another_precision_beside_the_model_do_not_count_twice(home):
    folder = home / "models/alpha"
    spec = fake_spec(home)
    for name in ("model.fp16.safetensors", "pytorch_model.bin", "tf_model.h5"):
        (folder / name).write_bytes(no_tensors(2**20))
    assert model_source.weight_files(folder) == [folder / "model.safetensors"]
    assert model_source.checkpoint_mib(spec) == mib(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    assert model_source.weight_files(folder) == [folder / "model.fp16.safetensors"], "the only ones that there are"


def test_the_bits_are_those_of_the_files_that_the_index_names(home):
    folder = sharded(home / "models/alpha")
    (folder / SHARDS[0]).write_bytes(tensor(16))
    (folder / "consolidated.safetensors").write_bytes(tensor(16).replace(b'"w"', b'"v"'))
    assert set(checkpoint.tensors(folder) or {}) == {"w"}


@pytest.mark.parametrize(("name", "start"), [
    pytest.param("shard", "hf download org/name --revision", marks=pytest.mark.fault(
        "A shard that the index names is missing, in a folder or in a hub's cache",
        "refused when the plan is made, also by `snakemake -n`: the file, and the `hf download` line that completes it",
    )),
    pytest.param("dangling", "hf download org/name --revision", marks=pytest.mark.fault(
        "A hub's cache was copied without its blobs, so its links lead nowhere",
        "refused when the plan is made: the first such file, how many others, and the `hf download` line",
    )),
    ("no index, a number missing", ""),
    pytest.param("incomplete", "", marks=pytest.mark.fault(
        "A download into a hub's cache has not ended (`.incomplete`)",
        "refused when the plan is made: the missing file, the unfinished one, and the `hf download` line; one that was "
        "left beside a whole model hinders nothing",
    )),
])  # fmt: skip
def test_what_is_missing_is_named_with_the_command_that_completes_this_very_commit(home, name, start):
    folder = sharded(cached(home, COMMIT, ref="main"))
    spec = fake_spec(home, source="org/name", env={"HF_HUB_CACHE": str(home / "hub")})
    model_source.check_source(spec)
    (folder / SHARDS[1]).unlink()
    words = f"{SHARDS[1]}, which model.safetensors.index.json names, is missing"
    if name == "dangling":
        (folder / SHARDS[1]).symlink_to("../../blobs/abc")
        words = f"{SHARDS[1]} is a link to a file that is not there"
    elif name.startswith("no index"):
        (folder / "model.safetensors.index.json").unlink()
        words = f"{SHARDS[1]}, which the names of the others count, is missing"
    elif name == "incomplete":
        blobs = folder.parent.parent / "blobs"
        blobs.mkdir()
        (blobs / "abc.incomplete").write_bytes(b"half")
        words += f" (a download has not ended: {blobs}/abc.incomplete)"
    with pytest.raises(QuantbenchError) as caught:
        model_source.check_source(spec)
    assert words in caught.value.what
    assert start in caught.value.remedy
    assert f"hf download org/name --revision {COMMIT} --include {SHARDS[1]} --cache-dir" in caught.value.remedy
    model_source.check_source(changed(spec, load_format="dummy")) if name != "dangling" else None
    for look in (model_source.checkpoint_mib, identity.source_id, model_source.revision):
        look(spec)


def test_a_stale_unfinished_download_beside_a_whole_model_hinders_nothing(home):
    folder = sharded(cached(home, COMMIT, ref="main"))
    (folder.parent.parent / "blobs").mkdir()
    (folder.parent.parent / "blobs/abc.incomplete").touch()
    model_source.check_source(fake_spec(home, source="org/name", env={"HF_HUB_CACHE": str(home / "hub")}))


@pytest.mark.parametrize("where", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "home", "arg"])
def test_the_cache_is_where_the_hub_library_puts_it(home, monkeypatch, where):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    below = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}.get(where, "")
    place = home / ".cache/huggingface/hub" if where == "home" else home / "here" / below
    args = ["--download-dir", str(place)] if where == "arg" else []
    if where not in ("home", "arg"):
        monkeypatch.setenv(where, "~/here")
    spec = fake_spec(home, source="org/name", args=args)
    assert engine_of(spec).hub(spec).cache == place


def test_the_revision_of_a_hub_model_is_recorded_with_its_commit(home):
    cached(home, COMMIT, ref="main")
    cached(home, "f" * 40, ref="v2")
    spec = fake_spec(home, source="org/name", env={"HF_HUB_CACHE": str(home / "hub")})
    assert model_source.revision(spec) == Revision(asked="main", commit=COMMIT)
    assert model_source.revision(changed(spec, args=["--revision", "v2"])) == Revision(asked="v2", commit="f" * 40)
    assert model_source.revision(fake_spec(home)) is None
    with pytest.raises(QuantbenchError, match="of its revisions the cache has main, v2") as caught:
        model_source.check_source(changed(spec, args=["--revision", "v3"]))
    assert "hf download org/name --revision v3" in caught.value.remedy


def test_what_a_folder_was_unpacked_from_is_read_of_our_record_alone(home):
    spec, record = fake_spec(home), home / "models/alpha/provenance.json"
    assert model_source.unpacked(spec) is None
    file = Unpacked(file="a.gguf", file_sha256="0" * 64, type="Q4_1", bits_per_weight=5.0)
    write(record, Provenance(model="alpha", source="a.gguf", unpacked=file))
    assert model_source.unpacked(spec) == file
    write(record, Provenance(model="alpha", source="demo"))
    assert model_source.unpacked(spec) is None
    record.write_text('{"made": "by somebody else"}')
    assert model_source.unpacked(spec) is None


@pytest.mark.parametrize(
    ("type_", "bits"), [("Q4_1", 4), ("IQ3_XXS", 3), ("Q8_0", 8), ("BF16", 16), ("F32", 32), ("?", None)]
)
def test_the_bits_of_a_gguf_type_are_in_its_name(type_, bits):
    assert Unpacked(file="a", file_sha256="", type=type_, bits_per_weight=None).bits == bits


@pytest.mark.parametrize(("there", "words", "remedy"), [
    (["model.Q4_K_M.gguf", "model.Q8_0.gguf"], "only model.Q4_K_M.gguf, model.Q8_0.gguf", "model.Q4_K_M.gguf"),
    (["original/consolidated.00.pth", "original/params.json"], "original/consolidated.00.pth is in Meta's own", ""),
    (["adapter_model.safetensors.bak", "adapter_config.json"], "is an adapter, no model", ""),
])  # fmt: skip
def test_what_is_there_instead_of_a_checkpoint_is_said(home, there, words, remedy):
    folder = home / "models/alpha"
    spec = fake_spec(home)
    (folder / "model.safetensors").unlink()
    for name in there:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(QuantbenchError, match="has no weights") as caught:
        model_source.check_source(spec)
    assert words in caught.value.what
    assert remedy in caught.value.remedy


def test_mistrals_own_format_and_pytorchs_are_whole_models_too(home):
    folder = home / "mistral"
    folder.mkdir()
    for name in ("params.json", "tekken.json"):
        (folder / name).write_text("{}")
    (folder / "consolidated.safetensors").write_bytes(no_tensors(64))
    for load_format in ("auto", "mistral"):
        model_source.check_source(fake_spec(None, source=str(folder), load_format=load_format))
    assert model_source.weight_files(folder) == [folder / "consolidated.safetensors"]
    both = sharded(home / "both")
    (both / SHARDS[0]).unlink()
    (both / "consolidated.safetensors").write_bytes(no_tensors(64))
    with pytest.raises(QuantbenchError, match=SHARDS[0]):
        model_source.check_source(fake_spec(None, source=str(both)))
    theirs = fake_spec(None, source=str(both), load_format="mistral")
    model_source.check_source(theirs)
    (both / "consolidated.safetensors").write_bytes(no_tensors(2**20))
    assert model_source.checkpoint_mib(theirs) == 1.0
    (both / "params.json").write_text("{}")  # vLLM takes such a folder for one of Mistral's
    model_source.check_source(fake_spec(None, source=str(both)))
    torch = home / "torch"
    torch.mkdir()
    (torch / "config.json").write_text("{}")
    (torch / "pytorch_model.bin").write_bytes(b"a pickle")
    model_source.check_source(fake_spec(None, source=str(torch)))
    (torch / "pytorch_model.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(QuantbenchError, match="is a pointer of Git LFS"):
        model_source.check_source(fake_spec(None, source=str(torch)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_named(home, text):
    folder = sharded(home / "models/alpha")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(QuantbenchError, match=r"model\.safetensors\.index\.json is damaged"):
        model_source.check_source(fake_spec(None, source=str(folder)))


@pytest.mark.fault(
    "config.json of a model is cut, a pointer, or saved in another encoding",
    "refused before the start, with what is wrong with it",
)
@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"[1]", "is no JSON object"), (b'{"a": 1,}', "is not JSON: "), (b"<html>", "is not JSON: "),
     (b"\xef\xbb\xbf{}", "byte order mark"), ("{}".encode("utf-16"), "byte order mark"), (b"\xff{}", "is not UTF-8"),
     (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"), (b"[" * 99999, "is not JSON")],
)  # fmt: skip
def test_a_config_that_cannot_be_read_is_named_with_its_fault(home, content, words):
    folder = home / "mine"
    folder.mkdir()
    (folder / "config.json").write_bytes(content)
    (folder / "model.safetensors").write_bytes(tensor(4))
    with pytest.raises(QuantbenchError) as error:
        model_source.check_source(changed(fake_spec(home), source=str(folder)))
    assert f"mine/config.json {words}" in error.value.what or words in error.value.what
    assert checkpoint.config(folder) == {}


@pytest.mark.parametrize(
    "entry",
    [{"shape": [-1, 4]}, {"shape": ["a", 4]}, {"dtype": 16}, {"shape": [3, 4]}, {"data_offsets": [0]}, {"shape": 4}],
)
def test_a_header_whose_entries_are_no_tensors_is_damaged(tmp_path, entry):
    named = {"a.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]} | entry}
    header = json.dumps({"__metadata__": {"format": "pt"}} | named).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "header" in checkpoint.damage(file)
    file.write_bytes(tensor(4))
    assert checkpoint.damage(file) == ""


def test_an_adapter_is_no_model_and_one_beside_a_model_is_not_counted(home):
    folder = home / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(tensor(4))
    with pytest.raises(QuantbenchError, match="is an adapter, no model"):
        model_source.check_source(changed(fake_spec(home), source=str(folder)))
    (folder / "model.safetensors").write_bytes(tensor(4))
    model_source.check_source(changed(fake_spec(home), source=str(folder)))
    assert [path.name for path in checkpoint.weights(folder).files] == ["model.safetensors"]


@pytest.mark.parametrize("ref", [b"", b"\xff\xfe\x00", b"../../../etc"])
def test_a_damaged_ref_is_a_model_that_is_not_here(home, ref):
    cached(home, "a" * 40, "main")
    (home / "hub/models--org--name/refs/main").write_bytes(ref)
    with pytest.raises(QuantbenchError, match="neither a folder here nor in the hub cache"):
        model_source.check_source(changed(fake_spec(home), source="org/name"))


@pytest.mark.parametrize("source", ["org/model@main", "https://huggingface.co/org/model"])
def test_other_spellings_of_a_hub_id_are_named_by_the_id(home, source):
    with pytest.raises(QuantbenchError) as error:
        model_source.check_source(changed(fake_spec(home), source=source))
    assert "name org/model as" in error.value.remedy
    assert (".revision" in error.value.remedy) == ("@" in source)


def test_each_header_is_read_once_however_often_it_is_looked_into(home, monkeypatch):
    folder = home / "mine"
    sharded(folder)
    opened = []
    monkeypatch.setattr(checkpoint.msgspec.json, "decode", lambda content, **_: opened.append(content) or {})
    for _ in range(3):
        checkpoint.tensors(folder)
        checkpoint.damage(next(folder.glob("*.safetensors")))
    assert len(opened) == len(checkpoint.weights(folder).files)
