"""Facts of GPUs that people rent: NVML's name and memory, compute capability, memory bandwidth, peak of arithmetic.

Compute capabilities are those of NVIDIA's table (developer.nvidia.com/cuda-gpus), bandwidths and 10¹² operations per
second the peak figures of its data sheets and architecture papers, of the fastest form of that name; operations of
tensor cores with dense matrices (data sheets print twice as much, "with sparsity") and 32-bit sums. Memory is
`memory.total` of nvidia-smi, as people have posted it. Written down from memory and search results on 2026-11-27; only
H100 and H200 were seen here. What is not known is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from quantbench.records.server import Peaks

HIDDEN_GIB: Final = 0.6
"""What CUDA does not show of NVML's memory, at most: 0.47 GiB on an H100 and 0.60 on an H200 (their logs and NVML)."""


@dataclass(frozen=True)
class Card:
    """A GPU. capability: 10 × major + minor. bandwidth_gbs: 10⁹ bytes per second.

    tflops: 10¹² operations per second by the precision of what is multiplied; `bf16` stands for any 16 bits.
    """

    key: str
    name: str
    memory_mib: int
    capability: int
    bandwidth_gbs: float
    tflops: Mapping[str, float] = field(default_factory=dict)

    @property
    def usable_gib(self) -> float:
        """Memory that CUDA sees, of which vLLM takes its share."""
        return self.memory_mib / 1024 - HIDDEN_GIB


def _tflops(bf16: float, fp8: float = 0, int8: float = 0, fp4: float = 0) -> dict[str, float]:
    """By precision, without those that the tensor cores lack."""
    return {kind: peak for kind, peak in (("bf16", bf16), ("fp8", fp8), ("int8", int8), ("fp4", fp4)) if peak}


CARDS: Final = (
    Card("t4-16gb", "Tesla T4", 15360, 75, 320, _tflops(65, int8=130)),
    Card("rtx2000-ada-16gb", "NVIDIA RTX 2000 Ada Generation", 16380, 89, 224, _tflops(48, fp8=96, int8=96)),
    Card("a10-24gb", "NVIDIA A10", 23028, 86, 600, _tflops(125, int8=250)),
    Card("l4-24gb", "NVIDIA L4", 23034, 89, 300, _tflops(121, fp8=242, int8=242)),
    Card("rtx3090-24gb", "NVIDIA GeForce RTX 3090", 24576, 86, 936, _tflops(71, int8=284)),
    Card("rtx4090-24gb", "NVIDIA GeForce RTX 4090", 24564, 89, 1008, _tflops(165, fp8=330, int8=661)),
    Card("rtx5090-32gb", "NVIDIA GeForce RTX 5090", 32607, 120, 1792, _tflops(209, fp8=419, int8=838, fp4=1676)),
    Card("a100-40gb", "NVIDIA A100-SXM4-40GB", 40960, 80, 1555, _tflops(312, int8=624)),
    Card("l40s-48gb", "NVIDIA L40S", 46068, 89, 864, _tflops(362, fp8=733, int8=733)),
    Card("rtx6000-ada-48gb", "NVIDIA RTX 6000 Ada Generation", 49140, 89, 960, _tflops(364, fp8=728, int8=728)),
    Card("a100-80gb", "NVIDIA A100-SXM4-80GB", 81920, 80, 2039, _tflops(312, int8=624)),
    Card("h100-80gb", "NVIDIA H100 80GB HBM3", 81559, 90, 3350, _tflops(989, fp8=1979, int8=1979)),
    Card("h100-nvl-94gb", "NVIDIA H100 NVL", 95830, 90, 3900, _tflops(835, fp8=1671, int8=1671)),
    Card("rtx-pro-6000-96gb", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, 120, 1792),
    Card("h200-141gb", "NVIDIA H200", 143771, 90, 4800, _tflops(989, fp8=1979, int8=1979)),
    Card("b200-180gb", "NVIDIA B200", 183359, 100, 8000, _tflops(2250, fp8=4500, int8=4500, fp4=9000)),
)


def find(text: str) -> tuple[Card, ...]:
    """The cards that a person may mean: the one of this key, else all whose key or name has all words of the text."""
    exact = [card for card in CARDS if text.lower() in (card.key, card.name.lower())]
    return tuple(exact or (card for card in CARDS if set(_words(text)) <= set(_words(f"{card.key} {card.name}"))))


def of_device(name: str | None, memory_mib: int | None) -> Card | None:
    """The card that NVML names; None for others, and where its memory is another one (a variant of that name)."""
    shown = set(_words(name or ""))
    near = [c for c in CARDS if set(_words(c.name)) - _NOISE <= shown and memory_mib]
    best = sorted(near, key=lambda card: (-len(_words(card.name)), abs(card.memory_mib - (memory_mib or 0))))
    return next((card for card in best if abs(card.memory_mib - (memory_mib or 0)) < 0.06 * card.memory_mib), None)


def peaks(together: Sequence[Card]) -> Peaks:
    """Of these cards together, by the table; operations in the precisions that each of them has."""
    kinds = set.intersection(*(set(card.tflops) for card in together)) if together else set()
    return Peaks(
        bandwidth_gbs=sum(card.bandwidth_gbs for card in together) or None,
        bandwidth_source="card" if together else None,
        tflops={kind: sum(card.tflops[kind] for card in together) for kind in sorted(kinds)},
    )


_NOISE: Final = {"nvidia", "server", "edition", "sxm4", "40gb", "80gb", "hbm3", "generation", "geforce"}


def _words(text: str) -> list[str]:
    """`RTX4090` and `RTX 4090` have the same words."""
    return re.findall(r"[a-z]+\d*[a-z]*|\d+[a-z]*", re.sub(r"rtx(?=\d)", "rtx ", text.lower()))
