"""What a signal says, and what the kernel counts, in both kinds of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantbench.engines import endings


@pytest.mark.parametrize(
    ("code", "number"), [(None, None), (0, None), (1, None), (-9, 9), (137, 9), (139, 11), (200, None)]
)
def test_a_return_code_tells_the_signal(code: int | None, number: int | None) -> None:
    assert endings.signal_of(code) == number


def test_every_signal_has_words_and_a_remedy() -> None:
    for number in range(1, 70):
        ending = endings.of_signal(number)
        assert ending.cause.startswith(f"ended by signal {number}, ") or number > 31
        assert ending.remedy
    assert endings.of_signal(9).cause == "ended by signal 9, most likely out of host memory (SIGKILL)"
    assert "; the kernel counts 2 kills for memory" in endings.of_signal(9, 2).cause
    assert "counts no kill for memory" in endings.of_signal(9, 0).cause
    assert "counts" not in endings.of_signal(11, 2).cause


GROUPS = {
    "0::/user/app": ("user/app/memory.events", "low 0\noom 4\noom_kill 3\n"),
    "0::/not/mounted/here": ("memory.events", "oom_kill 3\n"),
    "7:cpu:/a\n5:hugetlb,memory:/a": ("memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
}


@pytest.mark.parametrize("own", GROUPS)
def test_kills_for_memory_are_counted_where_the_kernel_tells(own: str, tmp_path: Path) -> None:
    (tmp_path / "own").write_text(own + "\n")
    assert endings.out_of_memory_kills(tmp_path, tmp_path / "own") is None
    name, text = GROUPS[own]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert endings.out_of_memory_kills(tmp_path, tmp_path / "own") == 3
    file.write_text("what is this")
    assert endings.out_of_memory_kills(tmp_path, tmp_path / "own") is None
    assert endings.out_of_memory_kills(tmp_path, tmp_path / "none") is None
