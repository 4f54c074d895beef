"""The header of a GGUF file: types, bits, and what is wrong with a file, without reading its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf_file import BF16, F32, Q4_1, Q4_K, Q8_0, gguf, tiny_llama
from hypothesis import given
from hypothesis import strategies as st
from quantbench.engines.vllm.formats import claim_of
from quantbench.observe import checkpoint
from quantbench.observe import gguf as header


@pytest.mark.parametrize(
    ("kind", "name", "bits"), [(Q4_1, "Q4_1", 5.0), (Q8_0, "Q8_0", 8.5), (Q4_K, "Q4_K", 4.5), (BF16, "BF16", 16.0)]
)
def test_bits_are_those_of_the_linear_layers_with_their_scales(
    tmp_path: Path, kind: int, name: str, bits: float
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf({
        "token_embd.weight": ((8, 256), Q8_0), "output.weight": ((8, 256), Q8_0),
        "blk.0.attn_norm.weight": ((256,), F32), "blk.0.ffn_up.weight": ((512, 256), kind),
    }, general__architecture="llama", tokenizer__ggml__tokens=["a", "b"], of=[1, 2, 3]))  # fmt: skip
    found = header.read(file)
    assert (found.type, found.bits_per_weight, found.is_split) == (name, bits, False)
    assert found.tensors["blk.0.ffn_up.weight"].shape == (512, 256)
    assert found.values == {"general.architecture": "llama"}
    claim = claim_of(checkpoint.config(file))
    assert (claim is None) == (kind == BF16), "a file in 16 bit is not quantized"
    if claim:
        scheme = claim.scheme("blk.0.ffn_up")
        assert scheme is not None
        assert (claim.method, claim.source, scheme.bits) == ("gguf", "m.gguf", bits)


def test_a_mix_of_types_has_the_mean_and_the_name_of_the_most(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf({"blk.0.a.weight": ((3, 256), Q4_K), "blk.0.b.weight": ((1, 256), Q8_0)}, split__count=2))
    found = header.read(file)
    assert (found.type, found.bits_per_weight, found.is_split) == ("Q4_K", 5.5, True)


WHOLE = tiny_llama()


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_that_was_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path_factory, length: int) -> None:
    file = tmp_path_factory.getbasetemp() / "cut.gguf"
    file.write_bytes(WHOLE[:length])
    with pytest.raises(ValueError, match=r"is no GGUF file|is cut short"):
        header.read(file)


@given(st.integers(4, 600), st.binary(min_size=1, max_size=9))
def test_a_damaged_header_ends_in_words_or_in_a_header(tmp_path_factory, at: int, bytes_: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.gguf"
    file.write_bytes(WHOLE[:at] + bytes_ + WHOLE[at + len(bytes_) :])
    try:
        header.read(file)
    except ValueError as error:
        assert str(error).startswith(("is ", "has "))
