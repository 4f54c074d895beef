"""Starts that fail, models that are not what they say, and what ready.json and session.json hold."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
import raw_server
from quantbench.engines import openai_api
from quantbench.engines.vllm import client, installed, quantization
from quantbench.engines.vllm.evidence import Claim
from quantbench.errors import QuantbenchError
from quantbench.records.server import Tokenizer
from quantbench.serving import lane, owner, registry, server
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
    "the stand-in for a server answers with a web page, asks for a key, or serves another model",
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
    monkeypatch.setattr(server.preflight, "check_port", lambda _: None)  # it was free when we looked
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


def quantized(home, **changes):
    spec = gpu_spec(home, "awq", claimed={"quantization": "awq", "bits": 4.0}, **changes)
    claim = {"quant_method": "awq", "bits": 4, "group_size": 128}
    Path(spec.source, "config.json").write_text(json.dumps({"quantization_config": claim}))
    return spec


def test_a_variant_that_is_not_quantized_is_never_measured(home):
    with lane.lease(quantized(home)) as lease:
        facts = lease.ready.quantization
    assert facts.verified is True
    assert (facts.label, facts.kernel) == ("W4A16", "MarlinLinearKernel")
    lane.sweep()
    error = lease_error(quantized(home, env={"FAKE_VLLM": json.dumps({"unquantized": True})}))
    assert "is not what the config says (awq)" in error.what
    assert "quantization=None, but awq was claimed" in error.what


@pytest.mark.parametrize(
    ("claimed", "bits", "claim", "words"),
    [
        ("none", 16.0, None, None),
        ("awq", 4.0, Claim("awq", 4, 16), None),
        ("gptq", 8, Claim("gptq", 8, 16), None),
        ("fp8", 8, Claim("fp8", 8, 8, online=True), None),
        ("compressed-tensors", None, Claim("compressed-tensors", 8, 8), None),
        ("awq", 4, None, "neither the checkpoint"),
        ("none", 16, Claim("gptq", 4, 16), "not quantized, but it is"),
        ("awq", 4, Claim("gptq", 4, 16), "checkpoint says gptq"),
        ("gptq", 4, Claim("gptq", 8, 16), "4 bits per weight, the checkpoint 8"),
    ],
)
def test_the_claims_of_config_and_checkpoint_must_agree(claimed, bits, claim, words):
    mismatch = quantization.claim_mismatch(claimed, bits, claim)
    assert (mismatch is None) if words is None else (words in mismatch)


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
