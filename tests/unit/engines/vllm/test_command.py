from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench import files
from quantbench.engines.vllm import command
from quantbench.errors import QuantbenchError
from servers import changed, fake_spec

SPEC = fake_spec(None)
CUDA = changed(SPEC, platform="cuda", devices=["2", "3"])


def option(argv, name):
    return argv[argv.index(name) + 1]


def test_cpu():
    argv, env = command.command(changed(SPEC, threads=2), "resident")
    assert argv[len(SPEC.settings.command) :][:2] == ["serve", SPEC.source]
    assert option(argv, "--host") == "127.0.0.1"
    assert option(argv, "--kv-cache-memory-bytes") == str(128 * 2**20)
    assert {"--enforce-eager", "--no-enable-prefix-caching", "--generation-config"} <= set(argv)
    assert not {"--gpu-memory-utilization", "--enable-sleep-mode", "--quantization", "--load-format"} & set(argv)
    assert (env["OMP_NUM_THREADS"], env["CUDA_VISIBLE_DEVICES"], env["VLLM_ENABLE_V1_MULTIPROCESSING"]) == (
        "2",
        "",
        "0",
    )
    assert env["HF_HUB_OFFLINE"] == "1"


def test_a_cpu_server_needs_its_kv_cache_stated():
    with pytest.raises(QuantbenchError, match="kv_cache_gib"):
        command.command(changed(SPEC, kv_cache_gib=None), "resident")


def test_cuda():
    spec = changed(
        CUDA, tensor_parallel_size=2, kv_cache_gib=None, enforce_eager=False, quantization="fp8", load_format="dummy"
    )
    argv, env = command.command(spec, "sleep")
    assert (option(argv, "--tensor-parallel-size"), option(argv, "--gpu-memory-utilization")) == ("2", "0.9")
    assert (option(argv, "--quantization"), option(argv, "--load-format")) == ("fp8", "dummy")
    assert "--enforce-eager" not in argv
    assert "--kv-cache-memory-bytes" not in argv
    assert (env["CUDA_VISIBLE_DEVICES"], env["VLLM_SERVER_DEV_MODE"]) == ("2,3", "1")
    argv, env = command.command(spec, "restart")
    assert "--enable-sleep-mode" not in argv
    assert "VLLM_SERVER_DEV_MODE" not in env  # no development endpoints where they are not needed


def test_user_arguments_come_last_and_user_variables_win():
    spec = changed(SPEC, args=["--dtype", "float32"], env={"OMP_NUM_THREADS": "7"})
    argv, env = command.command(spec, "sleep")
    assert argv[-2:] == ["--dtype", "float32"]
    assert env["OMP_NUM_THREADS"] == "7"


@given(st.sampled_from([SPEC, CUDA]), st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_the_script_holds_exactly_the_command(spec, args):
    spec = changed(spec, args=args)
    argv, env = command.command(spec, "sleep")
    script = command.serve_script(spec, "sleep").replace(" \\\n  ", " ")
    if not any("\nexec " in arg or " \\\n  " in arg for arg in args):  # else an argument looks like the layout
        assert shlex.split(script[script.rindex("\nexec ") :])[1:] == argv
    for key, value in env.items():
        assert f"export {key}={shlex.quote(value)}\n" in script


@pytest.mark.fault(
    "serve.sh run by hand from another folder, or from a path with spaces and quotes",
    "it goes to the folder of the run first, so that its relative paths hold; everything in it is quoted",
)
@pytest.mark.parametrize("folder", ["run", "a 'run' of \"mine\" $(touch planted); {b}\nx"])
def test_the_script_runs_from_any_folder(tmp_path, monkeypatch, folder):
    home = tmp_path / folder
    (home / "bin").mkdir(parents=True)
    (home / "bin/python3").symlink_to(sys.executable)
    monkeypatch.chdir(home)
    show = ["bin/python3", "-c", "import json,os,sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"]
    args = ["--note", "two words, 'quotes' & $HOME; $(touch planted) `touch planted`\ntouch planted"]
    spec = changed(SPEC, command=show, args=args, env={"NOTE": "'; touch planted; '"})
    files.write_script(home / "serve.sh", command.serve_script(spec, "sleep"))
    environ = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "40", "VLLM_HOST_IP": "0.0.0.0"}
    done = subprocess.run([str(home / "serve.sh")], capture_output=True, check=True, env=environ, cwd="/")
    argv, env, where = json.loads(done.stdout)
    assert [*show, *argv] == command.command(spec, "sleep")[0]
    assert command.command(spec, "sleep")[1].items() <= env.items()
    assert "VLLM_CPU_KVCACHE_SPACE" not in env
    assert env["VLLM_HOST_IP"] == "127.0.0.1"
    assert where == str(home)
    assert list(tmp_path.rglob("planted")) == []


@pytest.mark.fault(
    "a secret in a VLLM_ variable of the shell",
    "the server inherits it; ready.json has its name only (values are kept of switches, numbers and known choices)",
)
def test_of_inherited_variables_only_harmless_values_are_kept(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("VLLM_", "OMP_", "MKL_", "KMP_"))]:
        monkeypatch.delenv(name)
    given = {
        "VLLM_MY_TOKEN": "planted", "VLLM_MY_PASSWORD": "1234", "VLLM_ODD": "planted", "VLLM_URL": "https://me:planted@x",
        "VLLM_API_KEY": "planted", "VLLM_USE_DEEP_GEMM": "1", "VLLM_ATTENTION_BACKEND": "FLASH_ATTN",
        "KMP_AFFINITY": "granularity=fine,compact",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert command.inherited(SPEC, "resident") == {
        "VLLM_MY_TOKEN": "set", "VLLM_MY_PASSWORD": "set", "VLLM_ODD": "set", "VLLM_URL": "set",
        "VLLM_USE_DEEP_GEMM": "1", "VLLM_ATTENTION_BACKEND": "FLASH_ATTN", "KMP_AFFINITY": "granularity=fine,compact",
    }  # fmt: skip


def test_every_change_is_another_server_and_the_hash_is_that_of_the_plans_spec():
    assert len({SPEC.hash, *(changed(SPEC, **change).hash for change in ({"source": "x"}, {"threads": 2}))}) == 3
    assert changed(SPEC, port=1).hash == SPEC.hash  # the same server, elsewhere
    plan = json.loads(json.dumps(SPEC.as_dict()))
    del plan["port"]
    assert SPEC.hash == hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]
