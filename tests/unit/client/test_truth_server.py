"""The known-truth server: what it logs is what it did."""

from __future__ import annotations

import json
import socket
import time

import pytest
from quantbench.client.truth_server import TruthServer
from quantbench.client.truth_stream import FAULTS, Schedule, plan
from quantbench.errors import QuantbenchError

MS = 1_000_000


def ask(url: str, body: dict[str, object]) -> tuple[bytes, int, int]:
    """(reply, sent_ns, end_ns) over a plain socket, independent of our own client."""
    host, port = url.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sent = time.monotonic_ns()
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        reply = b""
        while not reply.endswith(b"0\r\n\r\n"):
            reply += sock.recv(65536)
        return reply, sent, time.monotonic_ns()


def test_its_log_lies_within_what_a_plain_socket_sees() -> None:
    with TruthServer(Schedule(ttft_ms=10, itl_ms=2)) as server:
        reply, sent, end = ask(server.url, {"prompt": "[abc] x", "max_tokens": 6})
        [row] = server.log()
        assert server.log() == []
    assert sent <= row["received_ns"] < row["first_ns"] < row["last_ns"] <= end
    assert row["first_ns"] - row["received_ns"] >= 9.9 * MS
    late = row["late_max_ns"]  # five gaps of 2 ms, but for the lateness that the log admits
    assert abs(row["last_ns"] - row["first_ns"] - 10 * MS) <= late + 0.03 * MS
    assert late < 10_000 * MS
    assert (row["key"], row["tokens"]) == ("[abc] x", 6)
    assert reply.count(b"token_ids") == 6
    assert b"data: [DONE]" in reply


def test_it_ends_with_the_process_that_started_it() -> None:
    with TruthServer() as server:
        process = server._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        process.stdin = None


def test_the_jitter_depends_on_seed_and_number_only() -> None:
    schedule = Schedule(ttft_ms=10, jitter_ms=40)
    firsts = [plan(schedule, {}, chat=False, number=i).first_ns for i in range(200)]
    assert firsts == [plan(schedule, {}, chat=True, number=i).first_ns for i in range(200)]
    other = Schedule(ttft_ms=10, jitter_ms=40, seed=1)
    assert firsts != [plan(other, {}, chat=False, number=i).first_ns for i in range(200)]
    assert 10 * MS <= min(firsts) < 15 * MS
    assert 45 * MS < max(firsts) < 50 * MS


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("chat", [False, True])
def test_every_fault_has_a_plan(fault: str, chat: bool) -> None:
    schedule = Schedule(fault=fault, after=2, fault_every=2)
    good, bad = (plan(schedule, {"max_tokens": 5}, chat=chat, number=n) for n in (0, 1))
    assert (len(good.tokens), good.closing, good.token_count) == (5, "keep", 5)
    assert (good == bad) == (fault == "")


def test_a_request_may_change_the_schedule_but_not_invent_fields() -> None:
    changed = plan(Schedule(), {"max_tokens": 8, "truth": {"tokens_per_chunk": 4}}, chat=False, number=0)
    assert len(changed.tokens) == 2
    with pytest.raises(QuantbenchError, match="unknown schedule field"):
        plan(Schedule(), {"truth": {"speed": 9}}, chat=False, number=0)


def test_its_log_is_read_past_a_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with TruthServer(Schedule()) as server:
        assert server.log() == []
