"""Starts that fail, models that are not what they say, and what ready.json and session.json hold."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest
import raw_server
from quantbench.engines import openai_api
from quantbench.engines.vllm import client, installed, quantization
from quantbench.engines.vllm.formats import ALL, Claim, Rule, Scheme
from quantbench.errors import QuantbenchError
from quantbench.observe import programs
from quantbench.records.server import Tokenizer
from quantbench.serving import lane, owner, ports, preflight, registry, server
from servers import PATIENCE_S, behave, fake_spec, gpu_spec, own_home

CUDA = {"platform": "cuda", "mode": "auto"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    with own_home(tmp_path, monkeypatch, "results/servers") as folder:
        yield folder


def lease_error(spec):
    with pytest.raises(QuantbenchError) as caught, lane.lease(spec):
        raise AssertionError("leased")
    assert registry.servers() == []
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"args": ["--no-such-flag"]}, "--no-such-flag"),
        ({"env": {"FAKE_VLLM": json.dumps({"fail": "torch.OutOfMemoryError: CUDA out of memory."})}}, "out of memory"),
        ({"env": {"FAKE_VLLM": json.dumps({"fail": "some new message"})}}, "some new message"),
        ({"env": {"FAKE_VLLM": json.dumps({"start_s": 30})}, "start_timeout_s": 1.5}, "does not answer after"),
    ],
)
def test_a_failed_start_names_cause_remedy_and_log(home, changes, what):
    error = lease_error(fake_spec(home, **changes))
    assert "server of alpha" in error.what
    assert what in error.what
    assert error.log == "results/servers/alpha/server.log"
    assert (home / error.log).exists()
    *_, last = registry.read_events(owner.server_home("alpha"))
    assert last.why.startswith("start failed: server of alpha")


@pytest.mark.fault(
    "a server is killed while it starts (signal 9, 11, 7)",
    "the signal and what it most likely means, with the kernel's count of kills for memory where it can be read",
)
def test_a_server_that_is_killed_while_it_starts(home):
    error = lease_error(fake_spec(home, command=["sh", "-c", "kill -9 $$"]))
    words = "server of alpha ended while it was starting: ended by signal 9, most likely out of host memory"
    assert error.what.startswith(words)
    assert "smaller model" in error.remedy


@pytest.mark.fault(
    "the stand-in for a server answers with a web page or asks for a key",
    "the start fails at once, not at its timeout; the message says what came and what to check",
)
@pytest.mark.parametrize(
    ("rules", "what", "remedy"),
    [
        (
            {"list": "<html>Log in</html>"},
            "answered with text/html; charset=utf-8, “<html>Log in</html>”",
            "server.command",
        ),
        ({"key": "k"}, "HTTP 401", "take the API key out"),
    ],
)
def test_a_server_that_is_not_what_was_to_start(home, rules, what, remedy):
    error = lease_error(fake_spec(home, env=behave(home, **rules), start_timeout_s=600))
    assert "server of alpha is not the model server that was to start: " in error.what
    assert what in error.what
    assert remedy in error.remedy


@pytest.mark.fault(
    "another process takes the port while the server loads",
    "the start fails at once and names that process and the key",
)
def test_a_port_that_another_process_took_is_told_although_it_answers_rightly(home, monkeypatch):
    monkeypatch.setattr(ports, "_keep_named", lambda *_: None)  # it was free when we looked
    body = json.dumps({"data": [{"id": "alpha"}]}).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with raw_server.server(raw_server.sends(reply)) as url:
        port = int(url.rpartition(":")[2])
        error = lease_error(fake_spec(home, port=port, env={"FAKE_VLLM": json.dumps({"start_s": 600})}))
    assert f"server of alpha lost its port {port} to " in error.what
    assert f"(pid {os.getpid()})" in error.what
    assert "models.alpha.port" in error.remedy


def test_faults_seen_before_anything_is_started(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        error = lease_error(fake_spec(home, port=taken.getsockname()[1]))
        assert "is taken by" in error.what
        assert "pid" in error.what
        assert "models.alpha.port" in error.remedy
    error = lease_error(fake_spec(home, source="some-org/some-model"))
    assert "nor in the hub cache" in error.what
    assert error.remedy == "get it with: hf download some-org/some-model, or correct models.alpha.source"
    assert "models.alpha.source" in lease_error(fake_spec(home, source="models/none")).what
    assert "'./vllm' does not exist" in lease_error(fake_spec(home, command=["./vllm"])).what
    (home / "models/alpha/model.safetensors").unlink()
    error = lease_error(fake_spec(home, "beta", source=str(home / "models/alpha")))
    assert "has no weights" in error.what
    assert error.remedy == "copy the model again, or correct models.beta.source"
    assert not (home / "results").exists()


SCRIPT = "#!{}\necho up\n"


def script(home, text, mode=0o755):
    path = home / "vllm"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.fault(
    "server.command names a folder, a file that is not executable, a dead link, or a script without its interpreter",
    "said with the key and what is wrong before anything is started",
)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (str, "is a folder"),
        (lambda home: script(home, SCRIPT.format("/bin/sh"), 0o644), "is not executable"),
        (lambda home: script(home, SCRIPT.format("/gone/python")), "names /gone/python in its first line, which does"),
        (lambda home: script(home, SCRIPT.format(home)), "in its first line, which is a folder"),
        (lambda home: "no-such-program", "is not on PATH"),
        (lambda home: (home / "link").symlink_to("gone") or str(home / "link"), "is a link that leads nowhere"),
    ],
)
def test_a_command_that_cannot_be_started_is_named_before(home, make, words):
    error = lease_error(fake_spec(home, command=[make(home)]))
    assert "server.command" in error.what
    assert words in error.what
    assert "server.command" in error.remedy
    assert not (home / "results").exists()


@pytest.mark.fault(
    "the supervisor cannot start the server: no interpreter, no binary of this machine, arguments too long, NUL",
    "the message and server.log say why, with key and remedy; nothing is left",
)
@pytest.mark.parametrize(
    ("changes", "words", "remedy"),
    [
        ({"command": ["/gone/python"]}, "/gone/python does not exist here", "server.command"),
        (
            {"command": ["{script}"]},
            "names /gone/python in its first line, which does not exist here",
            "server.command",
        ),
        ({"command": ["{text}"]}, "is neither a program of this machine nor a script", "server.command"),
        ({"args": ["x" * 200_000]}, "longer than the system takes", "shorten server.args and server.env"),
        ({"env": {"A": "x" * 200_000}}, "longer than the system takes", "shorten server.args and server.env"),
        ({"args": ["a\0b"]}, "embedded null byte", "server.args or server.env"),
        ({"env": {"A=B": "x"}}, "illegal environment variable name", "server.args or server.env"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_server_that_cannot_be_spawned_says_why(home, monkeypatch, changes, words, remedy):
    monkeypatch.setattr(preflight, "check_command", lambda spec: None)  # as if it was lost since
    places = {"{script}": script(home, SCRIPT.format("/gone/python")), "{text}": str(home / "text")}
    (home / "text").write_text("no program\n")
    (home / "text").chmod(0o755)
    if "command" in changes:
        changes = {"command": [places.get(word, word) for word in changes["command"]]}
    error = lease_error(fake_spec(home, **changes))
    assert "server of alpha could not be started: " in error.what
    assert words in error.what
    assert remedy in error.remedy
    assert len(str(error)) < 600, "arguments are not repeated"
    assert words in (home / error.log).read_text().splitlines()[-1]


def test_a_log_that_cannot_be_written_is_not_laid_at_the_programs_door():
    full = OSError(errno.ENOSPC, "No space left on device", "results/server.log")
    why, remedy = programs.not_started("python", "server.command", full)
    assert why == "results/server.log cannot be written: No space left on device"
    assert "make room" in remedy


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN])
def test_a_machine_without_memory_for_the_supervisor_says_so(home, monkeypatch, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    spec = fake_spec(home)
    monkeypatch.setattr(server.subprocess, "Popen", fail)
    error = lease_error(spec)
    assert "server of alpha: its supervisor could not be started: the machine has no memory" in error.what
    assert "ulimit" in error.remedy


@pytest.mark.fault(
    "a server ends without a word",
    "the message says that it printed nothing, and to run its command, which the log has, by hand",
)
def test_a_server_that_prints_nothing_is_not_answered_by_read_the_log(home):
    error = lease_error(fake_spec(home, command=[script(home, "#!/bin/sh\nexit 3\n")]))
    assert "it printed nothing" in error.what
    assert "by hand" in error.remedy


@pytest.mark.fault(
    "the supervisor itself fails",
    "its last words are in the message and in server.log, though its own log goes with the state",
)
def test_a_supervisor_that_fails_is_quoted(home, monkeypatch):
    monkeypatch.setattr(server.sys, "executable", script(home, "#!/bin/sh\necho no module named x\nexit 1\n"))
    error = lease_error(fake_spec(home, command=["/bin/true"]))
    assert "no module named x" in error.what
    assert "no module named x" in (home / error.log).read_text()


@pytest.mark.fault(
    "a server prints a secret of the shell as it fails",
    "message and events.jsonl quote the line with the variable's name in place of it",
)
def test_a_secret_in_the_log_is_not_quoted(home, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "planted-secret")
    error = lease_error(fake_spec(home, env={"FAKE_VLLM": json.dumps({"fail": "no entry with planted-secret"})}))
    assert "no entry with [MY_API_KEY]" in error.what
    assert "planted-secret" not in (home / "results/servers/alpha/events.jsonl").read_text()


def quantized(home, **changes):
    spec = gpu_spec(home, "awq", claimed={"quantization": "awq", "bits": 4.0}, **changes)
    claim = {"quant_method": "awq", "bits": 4, "group_size": 128}
    Path(spec.source, "config.json").write_text(json.dumps({"quantization_config": claim}))
    return spec


@pytest.mark.fault("vLLM serves a quantized checkpoint in 16 bit", "the server is refused before anything is measured")
def test_a_variant_that_is_not_quantized_is_never_measured(home):
    with lane.lease(quantized(home)) as lease:
        facts = lease.ready.quantization
    assert facts.verified is True
    assert (facts.label, facts.kernel) == ("W4A16", "MarlinLinearKernel")
    lane.sweep()
    error = lease_error(quantized(home, env={"FAKE_VLLM": json.dumps({"unquantized": True})}))
    assert "is not what the config says (awq)" in error.what
    assert "quantization=None, but awq was claimed" in error.what


def claim(method, weights, activations, online=False):
    return Claim(method, (Rule(ALL, Scheme(weights, activations)),), online)


@pytest.mark.parametrize(
    ("claimed", "bits", "stated", "words"),
    [
        ("none", 16.0, None, None),
        ("awq", 4.0, claim("awq", 4, 16), None),
        ("gptq", 8, claim("gptq", 8, 16), None),
        ("fp8", 8, claim("fp8", 8, 8, online=True), None),
        ("compressed-tensors", None, claim("compressed-tensors", 8, 8), None),
        ("awq", 4, None, "neither the checkpoint"),
        ("none", 16, claim("gptq", 4, 16), "not quantized, but it is"),
        ("awq", 4, claim("gptq", 4, 16), "checkpoint says gptq"),
        ("gptq", 4, claim("gptq", 8, 16), "4 bits per weight, the checkpoint 8"),
    ],
)
def test_the_claims_of_config_and_checkpoint_must_agree(claimed, bits, stated, words):
    mismatch = quantization.claim_mismatch(claimed, bits, stated)
    assert (mismatch is None) if words is None else (words in mismatch[0])


def test_what_ready_json_holds(home):
    spec = fake_spec(home, env=behave(home, bos=2))
    with lane.lease(spec) as lease:
        facts = lease.ready
    assert facts.spec_hash == spec.hash
    assert (facts.model, facts.url, facts.mode) == ("alpha", lease.url, "resident")
    assert facts.log == "results/servers/alpha/server.log"
    assert facts.versions.vllm == "0.32.0"
    assert facts.startup.total_s == lease.state.start_s > 0.1
    assert facts.startup.weights_s == 0.05
    assert "total_s" not in facts.startup.missing
    assert (facts.memory.kv_cache_tokens, facts.memory.max_concurrency) == (131072, 128)
    assert facts.memory.weights_gib is None
    assert "not found" in facts.memory.missing["weights_gib"]
    assert facts.vram.source == "rss"
    assert facts.vram.delta_mib == facts.vram.after_mib > 10
    assert facts.settings.max_model_len == 1024
    assert facts.settings.prefix_caching is False
    assert facts.test_completion.prompt == openai_api.TEST_PROMPT
    assert facts.test_completion.e2e_ms > 0
    assert facts.tokenizer.chat_bos_count == 2
    assert facts.system_fingerprint == "fake-1"
    assert facts.peaks.bandwidth_source == "copy"
    assert facts.peaks.bandwidth_gbs > 0
    assert facts.step is None, "of a family that nobody knows"


def test_another_tokenizer_has_another_fingerprint(home):
    seen = []
    with lane.lease(fake_spec(home, env=behave(home))) as lease:
        for rules in ({}, {"salt": 1}, {"refuse": ["tokenize"]}):
            behave(home, **rules)
            seen.append(client.tokenizer(lease.url, "alpha"))
    assert seen[0].probe_sha256 != seen[1].probe_sha256
    assert seen[0].chat_probe_sha256 != seen[1].chat_probe_sha256
    assert seen[2] == Tokenizer()


@pytest.mark.parametrize(
    ("rule", "finite", "words"),
    [
        ("numbers", True, "logprobs of 4 tokens: -0.5, -0.5, -0.5, -0.5"),
        ("nan", False, "Out of range float values"),
        ("null", False, "-0.5, None"),
        ("none", None, "gives no logprobs"),
        ("refused", None, "not supported"),
    ],
)
def test_logits_are_known_to_be_numbers_by_their_logprobs(home, rule, finite, words):
    spec = fake_spec(home, env=behave(home, logprobs=rule))
    with lane.lease(spec) as lease:
        facts = lease.ready.logits
    assert facts.finite is finite
    assert words in facts.seen
    assert facts.missing == ({} if finite is not None else {"finite": facts.seen})


@pytest.mark.fault("a server ignores SIGTERM", "it is killed after the grace time")
def test_a_server_that_ignores_sigterm_is_ended_all_the_same(home):
    spec = fake_spec(home, env={"FAKE_VLLM": json.dumps({"ignore_sigterm": True})})
    with lane.lease(spec):
        pass
    begin = time.monotonic()
    assert lane.stop(spec)
    assert time.monotonic() - begin < server.GRACE_S + PATIENCE_S


def test_session_adds_up_the_leases(home):
    spec = fake_spec(home)
    for measured in (7.0, 2.0, 3.0):
        with lane.lease(spec) as lease:
            lease.measured_s = measured
    lane.stop(spec)
    record = server.session_record(spec)
    assert (record.model, record.mode, record.memory_returned) == ("alpha", "resident", True)
    assert record.measured_s == 5.0, "the first lease started the server and is not counted"
    assert record.held_s > 0
    assert record.starting_s > 0
    assert [e.event for e in record.events] == ["start", "lease", "lease", "lease", "stop"]
    unmeasured = registry.new_event("alpha", "stop", why="owner gone")
    assert registry.session_of("alpha", "resident", [*record.events, unmeasured]).memory_returned is True
    assert registry.session_of("never", "sleep", []).memory_returned is None


@pytest.mark.parametrize(
    ("changes", "version", "mode"),
    [
        ({}, "0.32.0", "resident"),
        (CUDA, "0.26.0", "sleep"),
        (CUDA, "0.8.5.post1", "restart"),
        (CUDA, None, "sleep"),
        (CUDA | {"mode": "restart"}, "0.26.0", "restart"),
        ({"endpoint": "http://x"}, None, "endpoint"),
    ],
)
def test_mode(changes, version, mode, monkeypatch):
    monkeypatch.setattr(installed, "_versions", lambda interpreter: {"vllm": version})
    assert server.mode_of(fake_spec(None, **changes))[0] == mode


def in_the_way(path: Path, how: str) -> None:
    """Make a server's events something that cannot be added to."""
    path.unlink(missing_ok=True)
    if how == "link":
        path.symlink_to(path.parent / "elsewhere")
    else:
        os.mkfifo(path)


@pytest.mark.fault(
    "events.jsonl of a server cannot be written (immutable, a link, no file)",
    "named with remedy before the next block; a block that is being measured is kept; the sweep at the end stops all",
)
@pytest.mark.parametrize("how", ["link", "pipe"])
def test_events_that_cannot_be_kept_lose_no_block_and_stop_no_sweep(home, capsys, how):
    spec = fake_spec(home)
    path = owner.server_home("alpha") / "events.jsonl"
    registry.say.cache_clear()
    with lane.lease(spec) as lease:
        in_the_way(path, how)
        lease.measured_s = 1.0
    said = capsys.readouterr().err
    assert f"event 'lease' of alpha is not kept: {path} cannot be written" in said
    assert said.count("remedy") == 1
    with pytest.raises(QuantbenchError, match=r"events\.jsonl cannot be written") as caught, lane.lease(spec):
        raise AssertionError("leased")
    assert "move the file away" in caught.value.remedy
    assert lane.sweep() == ["alpha"]
    assert registry.servers() == []
    assert not (path.parent / "elsewhere").exists()


def test_a_full_disk_under_the_events_is_said_and_no_failure(home, capsys, monkeypatch):
    def full(*_: object, **__: object) -> BinaryIO:
        return Path("/dev/full").open("ab", buffering=0)

    home_of = owner.server_home("alpha")
    monkeypatch.setattr(registry, "open_log", full)
    registry.say.cache_clear()
    registry.add_event(home_of, "lease")
    assert "event 'lease' of alpha is not kept: No space left on device\n  remedy: make room" in capsys.readouterr().err


def test_events_of_another_shape_are_left_out(home):
    home_of = owner.server_home("alpha")
    registry.add_event(home_of, "start", seconds=2.0)
    with (home_of / "events.jsonl").open("ab") as log:
        for text in (
            b"[]",
            b"{}",
            b'{"t": "now", "event": "stop"}',
            b"\xff",
            b"1",
            b"[" * 10**5,
            b'{"t": 1e999}',
            b'{"t',
        ):
            log.write(text + b"\n")
    registry.add_event(home_of, "stop")
    assert [event.event for event in registry.read_events(home_of)] == ["start", "stop"]
    assert server.session_record(fake_spec(home)).held_s is None


def test_the_log_of_a_server_is_not_written_through_a_link(home):
    log = owner.server_home("alpha") / "server.log"
    log.parent.mkdir(parents=True)
    (home / "mine").write_text("as it was")
    log.symlink_to(home / "mine")
    assert "server.log cannot be written" in lease_error(fake_spec(home)).what
    assert (home / "mine").read_text() == "as it was"
    assert not list((owner.state_dir() / "servers").iterdir())


def test_the_folder_of_another_run_that_is_gone_is_not_made_again(home):
    event = registry.new_event(home / "gone/alpha", "stop")
    registry.append_event(home / "gone/alpha", event)
    assert not (home / "gone").exists()


def test_a_sweep_that_fails_says_so_and_goes_on(home, monkeypatch, capsys):
    for model in ("alpha", "beta"):
        with lane.lease(fake_spec(home, model)):
            pass
    stop = server.stop

    def failing(state, why):
        if state.spec.model == "alpha":
            raise PermissionError(1, "not permitted")
        return stop(state, why)

    with monkeypatch.context() as broken:
        broken.setattr(server, "stop", failing)
        assert lane.sweep() == ["beta"]
    assert "server of alpha is not stopped: PermissionError" in capsys.readouterr().err
    assert lane.sweep() == ["alpha"]


@pytest.mark.fault("the port is taken by a server of another run of yours", "named with model and folder")
def test_a_port_that_another_server_of_ours_has_is_named_with_that_server(home):
    with lane.lease(fake_spec(home)) as lease:
        assert lease.state is not None
        beta = ports.held(fake_spec(home, "beta", port=lease.spec.port))
        with pytest.raises(QuantbenchError, match=r"the server of alpha in .*results/servers/alpha") as caught, beta:
            pass
    assert "lane sweep" in caught.value.remedy


@pytest.mark.fault("no loopback interface (a namespace without network)", "named, with how to bring it up")
def test_a_machine_without_loopback_is_named():
    assert preflight.loopback_fault() is None
    code = "from quantbench.serving import preflight; print(preflight.loopback_fault())"
    env = {**os.environ, "PYTHONPATH": str(owner.LIBRARY)}
    line = ["unshare", "-n", sys.executable, "-c", code]
    ran = subprocess.run(line, env=env, text=True, capture_output=True, check=False)
    if ran.returncode:
        pytest.skip(f"no network namespace here: {ran.stderr[:100]}")
    assert "the loopback interface (127.0.0.1) does not work here" in ran.stdout
    assert "ip link set lo up" in ran.stdout
