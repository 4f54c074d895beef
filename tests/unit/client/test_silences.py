"""Silences of a block, from its requests; and a client that is really stopped while its server goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.client.load import _Clocks
from quantbench.client.silences import KEPT, silences
from quantbench.client.truth_server import TruthServer
from quantbench.client.truth_stream import Schedule
from quantbench.judge import guards
from quantbench.records.base import convert
from quantbench.records.block import BlockContext
from quantbench.records.request import RequestRecord
from request_records import MS, block, request
from source import ROOT


def test_silences_are_those_of_all_connections_together() -> None:
    """Two slots half a request apart: what one waits for its first token, the other fills."""
    slots = [request(at, at + 20, at + 100, tokens=9, i=i) for i, at in enumerate((0, 55, 101))]
    seen = silences(slots)
    assert seen is not None
    assert (seen[0].s, seen[0].at_s, seen[0].prompt_tokens) == (0.02, 0.0, 5)
    assert {one.s for one in seen[1:]} <= {0.01, 0.006, 0.005, 0.001}


def test_a_silence_has_the_prompts_that_were_waited_for_and_its_place() -> None:
    waves = silences(block(6, 3))
    assert waves is not None
    waits = [one for one in waves if one.prompt_tokens]
    assert [round(one.at_s, 3) for one in waits] == [0.1, 0.0]  # from the last token of a wave, and from the start
    assert {one.prompt_tokens for one in waits} == {15}
    assert len([one for one in waves if not one.prompt_tokens]) == KEPT


def test_a_silence_is_told_by_what_it_ended_with() -> None:
    """Of three prompts that come at once, one is taken in alone, and the others in the next step."""
    wave = [request(0, 20, 20, tokens=1), request(1, 80, 155, i=1), request(2, 82, 157, i=2)]
    first, second = sorted([one for one in silences(wave) or () if one.s >= 0.02], key=lambda one: one.at_s)
    assert (first.s, first.prompt_tokens, first.taken_in) == (0.02, 15, 5)
    assert (second.s, second.prompt_tokens, second.taken_in) == (0.06, 10, 10)


def test_what_the_client_slept_through_is_not_the_servers() -> None:
    late = [request(0, 20, 65), request(66, 3086, 3131, i=1)]
    whole, excused = silences(late), silences(late, [(70 * MS, 3070 * MS)])
    assert whole is not None
    assert excused is not None
    assert (whole[0].s, excused[0].s) == (3.021, 0.021)


def test_without_gaps_nothing_is_known_and_without_tokens_all_is_silent() -> None:
    assert silences([replace(request(), gaps_us=None)]) is None
    assert silences([]) is None
    mute = RequestRecord(index=0, prompt_id="p", sent_ns=0, end_ns=5 * MS, reason="timeout")
    assert [one.s for one in silences([mute]) or ()] == [0.005]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 50), st.integers(0, 80)), min_size=1, max_size=12))
def test_silences_and_tokens_fill_the_block(times: list[tuple[int, int, int]]) -> None:
    requests = [request(at, at + wait, at + wait + span, i=i) for i, (at, wait, span) in enumerate(times)]
    seen = silences(requests) or ()
    length = max(r.end_ns or 0 for r in requests) - min(r.sent_ns or 0 for r in requests)
    assert 0 < sum(one.s for one in seen) * 1e9 <= length + 1
    assert list(seen) == sorted(seen, key=lambda one: -one.s)


@pytest.mark.fault(
    "The machine is suspended within a block (laptop, virtual machine)",
    "the block is refused (`suspended`) by the clock that counts sleep; a wall clock that is set is a warning only",
)
def test_clocks_tell_sleep_from_a_clock_that_was_set() -> None:
    before = _Clocks(running=100.0, since_boot=500.0, wall=1000.0)
    after = _Clocks(running=108.0, since_boot=568.0, wall=1058.0)  # slept 60 s, and the clock was put back by 10 s
    assert (before.suspended_s(after), before.step_s(after)) == (60.0, -10.0)
    now = _Clocks.now()
    assert abs(now.suspended_s(_Clocks.now())) < 0.05


CLIENT = """
    import sys
    import msgspec
    from quantbench.client.load import run_block
    from quantbench.client.load_spec import LoadSpec
    from quantbench.client.metrics import block_context
    from quantbench.client.truth_stream import MODEL
    from quantbench.records.cell import Cell

    prompts = [{"id": "p", "prompt": "Hello"}]
    spec = LoadSpec(url=sys.argv[1], model=MODEL, prompts=prompts, concurrency=2, max_tokens=16, min_seconds=2.0)
    result = run_block(spec, before=lambda: print("begun", flush=True))
    cell = Cell.of("chat", 2, 16)
    context = block_context(result, cell, gpu="", model="m", style="interactive", block=1, min_seconds=2.0)
    print(msgspec.json.encode(context).decode())
"""


@pytest.mark.alone
@pytest.mark.flaky(reruns=2, only_rerun="AssertionError")
@pytest.mark.fault(
    "The measuring job is stopped (SIGSTOP) for 1 s in the middle of a block",
    "the block is refused as the client's fault (`client_stalled`), not as the server's; all else of it is kept",
)
def test_a_client_that_is_stopped_is_told_apart_from_a_server_that_froze() -> None:
    with TruthServer(Schedule(ttft_ms=10, itl_ms=5)) as server:
        command = [sys.executable, "-c", textwrap.dedent(CLIENT), server.url]
        with subprocess.Popen(command, cwd=ROOT / "workflow", stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "begun\n"
            time.sleep(0.4)
            client.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            client.send_signal(signal.SIGCONT)
            written = client.stdout.read()
    measured = convert(msgspec.json.decode(written), BlockContext)
    judged = guards.judged(measured, None, None)
    assert "client_stalled" in judged.reasons
    assert "stalled" not in judged.reasons

    assert (judged.client.longest_stall_s or 0) > 0.9
    assert judged.silences is not None
    assert judged.silences[0].s < 0.5
