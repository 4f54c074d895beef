from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from quantbench import block
from quantbench.engines import openai_api
from quantbench.engines.vllm import client, metrics
from quantbench.engines.vllm import engine as vllm
from quantbench.errors import QuantbenchError
from quantbench.observe import gpu
from quantbench.records import base
from quantbench.records.block import ForeignProcess
from quantbench.serving import claims, lane, memory, owner, processes, registry, server
from quantbench.serving.starts import CHEAP_S, FIRST, Start
from servers import (
    KNOBS,
    PATIENCE_S,
    behave,
    changed,
    fake_spec,
    gpu_spec,
    left_over,
    own_home,
    running,
    started,
    write_prompts,
)

GIB = 1024


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    with own_home(tmp_path, monkeypatch) as folder:
        yield folder


def events(model, kind=None):
    return [e for e in registry.read_events(owner.server_home(model)) if kind in (None, e.event)]


def run_lease(spec, start=FIRST):
    with lane.lease(spec, start=start) as lease:
        return lease


def test_start_reuse_stop(home):
    spec = fake_spec(home)
    first = run_lease(spec)
    assert (first.action, first.mode, first.note) == ("started", "resident", "")
    assert first.ready.test_completion.tokens == 16
    second = run_lease(spec)
    assert second.action == "reused"
    assert second.state.mark == first.state.mark
    assert lane.stop(spec) is True
    (stop,) = events("alpha", "stop")
    assert stop.memory_returned is True
    assert stop.memory_held_mib > 10
    assert stop.memory_after_stop_mib == 0
    assert lane.stop(spec) is False
    assert [e.event for e in events("alpha")] == ["start", "lease", "lease", "stop"]


def test_cpu_servers_stay_and_the_idle_one_is_frozen(home):
    alpha, beta = fake_spec(home, "alpha"), fake_spec(home, "beta")
    run_lease(alpha)
    assert run_lease(beta).action == "started"
    frozen = registry.members(running("alpha"))
    assert frozen
    assert {processes._stat(pid)[0] for pid in frozen} == {"T"}
    assert run_lease(alpha).action == "woken"
    assert not {processes._stat(pid)[0] for pid in frozen} & {"T"}
    assert {processes._stat(pid)[0] for pid in registry.members(running("beta"))} == {"T"}
    assert [e.event for e in events("alpha")] == ["start", "lease", "sleep", "wake", "lease"]
    assert sorted(lane.sweep()) == ["alpha", "beta"]  # a frozen server ends too


def test_a_server_of_an_earlier_start_is_started_anew_beside_the_other(home):
    alpha, beta = fake_spec(home, "alpha"), fake_spec(home, "beta")
    run_lease(alpha)
    first = run_lease(beta)
    for spec in (alpha, beta, beta, alpha, alpha):
        run_lease(spec, Start(2))
    assert [e.why for e in events("alpha", "stop")] == ["start 2 is next"]
    assert len(events("alpha", "start")) == len(events("beta", "start")) == 2
    second = run_lease(beta, Start(1))
    assert second.action == "woken", "a later start will do, as for a block of the first that is measured again"
    assert (first.state.start, second.state.start) == (1, 2)
    assert second.state.started_unix > first.state.started_unix
    assert run_lease(beta).state == second.state


@pytest.mark.parametrize("slow", ["alpha", "beta", None])
def test_a_second_start_that_is_left_open_is_made_where_those_of_all_servers_are_cheap(home, slow):
    alpha, beta = fake_spec(home, "alpha"), fake_spec(home, "beta")
    for spec in (alpha, beta):
        run_lease(spec)
    if slow:
        home_of = owner.server_home(slow)
        (only,) = events(slow, "start")
        (home_of / "events.jsonl").write_bytes(base.line(replace(only, seconds=CHEAP_S)))
    for spec in (alpha, beta):
        run_lease(spec, Start(2, if_cheap=True))
    starts = [len(events(model, "start")) for model in ("alpha", "beta")]
    assert starts == ([1, 1] if slow else [2, 2])


def test_a_server_that_died_is_of_the_start_that_is_wanted(home):
    alpha = fake_spec(home, "alpha")
    state = run_lease(alpha).state
    processes.signal_all([processes.pid_of(registry.leader(state.key))], signal.SIGKILL)
    assert processes.until(lambda: not registry.is_up(state), PATIENCE_S)
    assert run_lease(alpha, Start(2)).state.start == 2
    assert run_lease(alpha, Start(2)).action == "reused"
    assert len(events("alpha", "start")) == 2


def test_gpu_servers_sleep_so_that_one_holds_the_memory(home):
    alpha, beta = gpu_spec(home, "alpha"), gpu_spec(home, "beta")
    assert run_lease(alpha).mode == "sleep"
    assert run_lease(beta).action == "started"
    assert vllm.is_sleeping(running("alpha").spec.url) is True
    assert [run_lease(s).action for s in (alpha, beta, beta, alpha)] == ["woken", "woken", "reused", "woken"]
    assert len(events("alpha", "start")) == len(events("beta", "start")) == 1


def test_a_switch_can_be_made_before_the_lease_that_it_is_for(home):
    alpha, beta = gpu_spec(home, "alpha"), gpu_spec(home, "beta")
    assert lane.prepare(alpha, "test") is None, "nothing is started for a block that may not come"
    run_lease(alpha)
    run_lease(beta)
    ahead = lane.prepare(alpha, "test")
    assert (ahead.action, running("beta").asleep) == ("woken", True)
    with claims.try_hold(alpha.devices) as free:
        assert free, "the lane is not held for a job that may not come"
    with lane.lease(alpha, "block", ahead) as lease:
        assert (lease.action, lease.switch_s > ahead.switch_s) == ("woken", True)
    with lane.lease(beta, "block", ahead) as lease:
        assert (lease.action, lease.switch_s < 10) == ("woken", True)
    with lane.lease(beta, "block", ahead) as lease:
        assert lease.action == "reused", "it was for another model"


def test_a_server_is_warmed_up_once_for_each_cell_in_a_block_or_ahead_of_it(home):
    spec, warmed = gpu_spec(home, "alpha"), set()
    write_prompts("short", ["Once upon a time", "Hello"])
    few, more = KNOBS, replace(KNOBS, concurrency=KNOBS.concurrency + 1, warmup_requests=KNOBS.warmup_requests + 1)

    def seen():
        return metrics.snapshot(client.metrics_page(started(spec).url)).requests_succeeded

    def warm_ups(knobs, *, ahead=False):
        """Requests that the server sees of a block beside the measured ones, and before it, where `ahead`."""
        wanted, before = block.BlockSpec("alpha", 1, spec, knobs, "test", Path("short.jsonl")), seen()
        if ahead:
            lane.prepare(spec, "test", warm_up=lambda lease: block.warm_up(wanted, lease, warmed))
        prepared = seen() - before
        records, _ = block.measure(wanted, None, warmed).parsed()
        return prepared, seen() - before - prepared - len(records)

    assert warm_ups(few) == (0, few.warmup_requests)
    assert warm_ups(few) == warm_ups(few, ahead=True) == (0, 0)
    assert warm_ups(more, ahead=True) == (more.warmup_requests, 0)
    assert warm_ups(more) == (0, 0)
    server.stop(running("alpha"), "test")
    assert warm_ups(few) == (0, few.warmup_requests), "a new process has nothing compiled"


@pytest.mark.fault(
    "sleep mode fails, going to sleep or waking up", "the lane falls back to restarting servers, and says so"
)
@pytest.mark.parametrize("fault", ["sleep", "wake"])
def test_a_failed_switch_falls_back_to_restart(home, fault):
    env = behave(home, refuse=[])
    alpha, beta = gpu_spec(home, "alpha", env=env), gpu_spec(home, "beta")
    run_lease(alpha)
    if fault == "wake":
        run_lease(beta)
    behave(home, refuse=[fault])
    lease = run_lease(beta if fault == "sleep" else alpha)
    assert (lease.action, lease.mode) == ("started", "restart")
    assert f"fell back to restart: alpha did not {'go to sleep' if fault == 'sleep' else 'wake up'}" in lease.note
    assert len(registry.servers()) == 1
    after = run_lease(beta if fault == "wake" else alpha)  # stays so for the rest of the run
    assert (after.action, after.mode) == ("started", "restart")
    assert len(registry.servers()) == 1
    assert json.loads(Path("logs/servers/lanes.json").read_text())["gpu0"]["mode"] == "restart"


def slept_and_woken(home, **rules):
    """alpha's lease after a sleep; `rules` hold from its start on."""
    alpha, beta = gpu_spec(home, "alpha", env=behave(home, **rules)), gpu_spec(home, "beta")
    run_lease(alpha)
    run_lease(beta)
    return run_lease(alpha)


@pytest.mark.fault(
    "a server answers garbage after sleep mode",
    "it is stopped and started anew before anything is measured; the block's lane note and an event say so",
)
def test_garbage_after_a_sleep_is_never_measured(home):
    lease = slept_and_woken(home, after_wake="!")
    assert (lease.action, lease.mode) == ("started", "sleep")  # the lane keeps its mode: each wake-up is looked at
    assert "alpha is not what it was after a sleep: it answered “word word" in lease.note
    assert "“!!!!!!!!!!!!!!!!” now; started anew, it answers as it did at first" in lease.note
    assert lease.facts().note == lease.note
    kinds = [e.event for e in events("alpha")]
    assert kinds == ["start", "lease", "sleep", "stop", "start", "answer_changed", "lease"]
    assert openai_api.complete(lease.url, "alpha").completion.text == " word" * 16
    assert vllm.is_sleeping(running("beta").spec.url) is True


def test_an_honest_server_may_choose_otherwise_at_a_near_tie(home):
    lease = slept_and_woken(home, after_wake=" other", nearly={" word": -0.7})
    assert (lease.action, lease.note) == ("woken", "")
    assert [e.event for e in events("alpha")] == ["start", "lease", "sleep", "wake", "lease"]


def test_a_server_that_answers_otherwise_at_each_start_is_called_so(home):
    run_lease(gpu_spec(home, "alpha"))
    old = running("alpha")
    third = replace(old, ready=replace(old.ready, test_completion=replace(old.ready.test_completion, text="third")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "stop", lambda *_: None)
        patch.setattr(lane, "_start_beside", lambda *_: third)
        note = lane._start_anew(old.spec, old, "alpha is not what it was", "sleep", [], "test").note
    assert note.endswith("it answers otherwise again, so it is not deterministic")


def test_a_fallback_of_an_earlier_run_does_not_last(home):
    lanes = owner.server_home("alpha").parent / "lanes.json"
    lanes.parent.mkdir(parents=True)
    lanes.write_text(json.dumps({key: {"mode": "restart", "reason": "did not wake up"} for key in ("gpu0", "gpu1")}))
    run_lease(gpu_spec(home, "alpha"))
    assert "gpu0" in json.loads(lanes.read_text())
    run_lease(gpu_spec(home, "beta"))
    assert list(json.loads(lanes.read_text())) == ["gpu1"]


def test_restart_mode_has_one_server(home):
    alpha, beta = gpu_spec(home, "alpha", mode="restart"), gpu_spec(home, "beta", mode="restart")
    run_lease(alpha)
    assert run_lease(beta).action == "started"
    assert [s.spec.model for s in registry.servers()] == ["beta"]
    assert events("alpha", "stop")[0].why == "beta is next"


def card(monkeypatch, **memory):
    """A pretended NVML: used, free and total in MiB, changed by the test as it goes."""
    state = {"driver": "1", "processes": (), **memory}
    monkeypatch.setattr(
        "quantbench.serving.memory.snapshot", lambda devices: None if "lost" in state else gpu.CardUse(**state)
    )
    return state


def before_each(monkeypatch, module, name, act):
    """Let `act()` happen before each call of a function."""
    real = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: (act(), real(*given))[1])


def holding(model, mib):
    """As if the model's server had taken this much at its start."""
    state = running(model)
    registry.save(replace(state, ready=replace(state.ready, vram=replace(state.ready.vram, delta_mib=mib))))


@pytest.mark.fault("NVML fails in mid-run", "the mode of the lane stays; what NVML would say is blank with its reason")
def test_nvml_that_disappears_is_no_reason_to_give_sleep_mode_up(home, monkeypatch):
    nvml = card(monkeypatch, used_mib=12000, free_mib=4000, total_mib=16000)
    run_lease(gpu_spec(home, "alpha", gpu_memory_utilization=0.2))
    holding("alpha", 12000)
    before_each(monkeypatch, vllm, "sleep", lambda: nvml.update(lost=True))
    lease = run_lease(gpu_spec(home, "beta", gpu_memory_utilization=0.2))
    assert (lease.action, lease.mode, lease.note) == ("started", "sleep", "")
    assert events("alpha", "memory_not_reported")[0].why == "asleep, but NVML does not tell the device's memory"
    lane.sweep()
    for model in ("alpha", "beta"):
        stop = events(model, "stop")[0]
        assert (stop.memory_returned, stop.memory_after_stop_mib) == (None, None)
        assert stop.memory_reason == "NVML does not tell the device's memory"


@pytest.mark.parametrize(("after", "returned"), [(12000, False), (7000, False), (500, True)])
def test_memory_beside_another_server_is_back_only_if_what_this_one_held_came_free(home, monkeypatch, after, returned):
    nvml = card(monkeypatch, used_mib=12000, free_mib=4000, total_mib=16000)
    monkeypatch.setattr(memory, "FREED_S", 0.2)
    alpha, beta = (gpu_spec(home, model, gpu_memory_utilization=0.2) for model in ("alpha", "beta"))
    run_lease(alpha)
    run_lease(beta)
    holding("beta", 11000)
    before_each(monkeypatch, server.processes, "supervisors", lambda: nvml.update(used_mib=after))
    lane.stop(beta)
    stop = events("beta", "stop")[0]
    assert (stop.memory_returned, stop.memory_after_stop_mib) == (returned, after)
    assert stop.others_resident == ("alpha",)


@pytest.mark.fault("no room on the GPU beside a sleeping server", "named with its arithmetic")
def test_too_little_gpu_memory_beside_a_sleeping_server(home, monkeypatch):
    nvml = card(monkeypatch, used_mib=0, free_mib=16000, total_mib=16000)
    run_lease(gpu_spec(home, "alpha", gpu_memory_utilization=0.9))
    # What a sleeping server keeps.
    before_each(monkeypatch, vllm, "sleep", lambda: nvml.update(used_mib=2000, free_mib=14000))
    before_each(monkeypatch, server, "stop", lambda: nvml.update(used_mib=0, free_mib=16000))
    lease = run_lease(gpu_spec(home, "beta", gpu_memory_utilization=0.9))
    assert lease.mode == "restart"
    assert "14000 MiB free on the GPU, 0.9 × 16000 = 14400 MiB needed" in lease.note


@pytest.mark.fault(
    "no host memory to park the weights in", "named with its arithmetic, and the servers are restarted instead"
)
def test_too_little_host_memory_to_park_the_weights(home, monkeypatch):
    run_lease(gpu_spec(home, "alpha"))
    monkeypatch.setattr("quantbench.serving.memory.host_available_mib", lambda: 3.0 * GIB)
    lease = run_lease(gpu_spec(home, "beta"))
    assert lease.mode == "restart"
    assert "host memory" in lease.note


def test_the_arithmetic_of_a_second_server_is_on_record(home, monkeypatch):
    card(monkeypatch, used_mib=1500, free_mib=14880, total_mib=16380)
    monkeypatch.setattr(memory, "FREED_S", 0.1)
    run_lease(gpu_spec(home, "alpha", gpu_memory_utilization=0.85))
    assert run_lease(gpu_spec(home, "beta", gpu_memory_utilization=0.85)).mode == "sleep"
    assert events("beta", "fits")[0].why == ("GPU 0: 14880 MiB free on the GPU, 0.85 × 16380 = 13923 MiB needed")


@pytest.mark.fault("a foreign process has the GPU's memory", "named with its process id")
def test_a_foreign_process_that_took_the_memory_is_named(home, monkeypatch):
    nvml = card(monkeypatch, used_mib=0, free_mib=16000, total_mib=16000)
    monkeypatch.setattr(memory, "FREED_S", 0.1)
    alpha, beta = gpu_spec(home, "alpha"), gpu_spec(home, "beta")
    run_lease(alpha)
    run_lease(beta)
    thief = ForeignProcess(pid=4711, name="thief", mib=9000)
    nvml.update(used_mib=9000, free_mib=7000, processes=(thief,))
    registry.save(replace(running("alpha"), freed_mib=12000.0))
    with pytest.raises(QuantbenchError, match=r"GPU 0 is not free.*thief \(pid 4711, 9000 MiB\)"):
        run_lease(alpha)


@pytest.mark.parametrize(
    ("victim", "who"),
    [("awake", "server"), ("awake", "engine"), ("awake", "supervisor"), ("sleeping", "server"), ("sleeping", "engine")],
)
def test_a_killed_server_is_started_anew(home, victim, who):
    alpha, beta = gpu_spec(home, "alpha"), gpu_spec(home, "beta")
    run_lease(alpha)
    run_lease(beta)
    spec = beta if victim == "awake" else alpha
    state = running(spec.model)
    server = processes.pid_of(registry.leader(state.key))
    pids = {
        "server": [server],
        "engine": [pid for pid in registry.members(state) if pid != server],
        "supervisor": processes.supervisors(state.mark)[:1],
    }[who]
    assert pids
    tokens = [processes.token(pid) for pid in pids]
    processes.signal_all(pids, signal.SIGKILL)
    assert processes.until(lambda: not any(map(processes.alive, tokens)), PATIENCE_S)
    if who != "engine":
        assert processes.until(lambda: not registry.members(state), PATIENCE_S)  # before anybody asks
    lease = run_lease(spec)
    assert (lease.action, lease.mode, lease.note) == ("started", "sleep", "")  # a death is no reason to fall back
    assert lease.state.mark != state.mark
    assert openai_api.complete(lease.url, spec.served_name).completion.tokens == 16


def test_a_server_that_was_just_frozen_is_not_called_dead_when_the_switch_fails(home):
    alpha, beta = fake_spec(home, "alpha"), fake_spec(home, "beta")
    run_lease(alpha)
    run_lease(beta)
    state = running("alpha")
    engines = set(registry.members(state)) - {processes.pid_of(registry.leader(state.key))}
    processes.signal_all(engines, signal.SIGKILL)
    lease = run_lease(alpha)  # beta is frozen for it, then it does not wake up
    assert (lease.action, lease.mode) == ("started", "restart")
    assert events("beta", "stop")[0].why == "alpha is next"


@pytest.mark.fault("a job fails while it has a server", "a well server is kept, a sick one stopped")
def test_a_failing_job_keeps_a_healthy_server_and_drops_a_sick_one(home):
    spec = fake_spec(home, env=behave(home))
    with pytest.raises(ZeroDivisionError), lane.lease(spec):
        1 / 0  # noqa: B018
    assert run_lease(spec).action == "reused"
    with pytest.raises(ZeroDivisionError), lane.lease(spec):
        raise ZeroDivisionError(behave(home, refuse=["health"]))
    assert registry.servers() == []
    behave(home)
    assert run_lease(spec).action == "started"


def test_one_lease_at_a_time_across_lanes_that_share_a_device(home):
    alpha = gpu_spec(home, "alpha")
    both = gpu_spec(home, "beta", devices=["0", "1"], lane="pair")
    inside, most = [], []

    def job(spec):
        for _ in range(2):
            with lane.lease(spec):
                inside.append(spec.model)
                most.append(len(inside))
                time.sleep(0.1)
                inside.remove(spec.model)

    threads = [threading.Thread(target=job, args=(spec,)) for spec in (alpha, both)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1, 1, 1, 1]


RUN = """
import sys
from quantbench.records.base import parse
from quantbench.records.server import ServerSpec
from quantbench.serving import lane, owner
owner.become_owner(["cpu"])
with lane.lease(parse(sys.argv[1].encode(), ServerSpec, "spec")) as lease:
    print(lease.action, flush=True)
    sys.stdin.read()
lane.sweep()
"""


def other_run(spec):
    """A run of its own that holds one lease until its standard input ends."""
    env = {**os.environ, "PYTHONPATH": str(owner.LIBRARY)}
    command = [sys.executable, "-c", RUN, json.dumps(spec.as_dict())]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def test_a_second_run_waits_for_the_first_and_says_so(home):
    first = other_run(fake_spec(home, "alpha"))
    assert first.stdout.readline() == "started\n"
    second = other_run(fake_spec(home, "beta"))
    assert second.stderr.readline() == f"waiting for device cpu: another run (pid {first.pid} in {home}) uses it\n"
    first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0
    out, err = second.communicate(timeout=PATIENCE_S)
    assert (out, err, second.returncode) == ("started\n", "", 0)
    assert not events("alpha", "stop")[0].why.startswith("beta")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_owner_is_the_end_of_its_servers(home, number):
    run = other_run(fake_spec(home, "alpha"))
    assert run.stdout.readline() == "started\n"
    state = running("alpha")
    assert len(registry.members(state)) == 2
    run.send_signal(number)
    run.wait()
    assert processes.until(lambda: not left_over(home / "state"), PATIENCE_S)
    assert events("alpha", "stop")[0].why == "owner gone"
    lease = run_lease(fake_spec(home, "alpha", port=state.spec.port))  # the dead run's claim is void
    assert lease.action == "started"


def test_claims_are_all_or_nothing(home):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        os.environ[owner.OWNER] = processes.token(stranger.pid)
        claims.claim(["b"])
        del os.environ[owner.OWNER]
        waiting = threading.Thread(target=claims.claim, args=(["a", "b"],))
        waiting.start()
        time.sleep(0.6)
        assert claims.claimed_by("a") is None
    finally:
        stranger.kill()
        stranger.wait()
    waiting.join(PATIENCE_S)
    assert claims.claimed_by("a").owner == claims.claimed_by("b").owner == owner.current()
    claims.release()
    assert claims.claimed_by("a") is None


def test_endpoint_servers_are_used_and_left_alone(home):
    ours = run_lease(fake_spec(home, "alpha"))
    spec = fake_spec(home, "remote", endpoint=ours.url + "/v1/", served_name="alpha")
    lease = run_lease(spec)
    assert (lease.action, lease.mode, lease.url, lease.log) == ("endpoint", "endpoint", ours.url, None)
    assert lane.stop(spec) is False
    assert openai_api.healthy(ours.url)
    with pytest.raises(QuantbenchError, match="serves alpha, not 'gamma'"):
        run_lease(changed(spec, served_name="gamma"))
    with pytest.raises(QuantbenchError, match="did not answer"):
        run_lease(changed(spec, endpoint="http://127.0.0.1:9"))


@pytest.mark.fault("a server that nobody asks for a long time", "it ends by itself")
def test_a_server_that_nobody_leases_ends_by_itself(home, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_IDLE_S", "0.5")
    state = run_lease(fake_spec(home)).state
    assert processes.until(lambda: bool(events("alpha", "stop")), PATIENCE_S)
    assert registry.members(state) == []
    assert events("alpha", "stop")[0].why == "idle"
    assert run_lease(state.spec).action == "started"
