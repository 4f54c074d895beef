"""server.args, server.env, server.command and names: what is refused when the plan is made, and what is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from quantbench.config.configuration import Plan, make_plan
from quantbench.config.schema import deep_merge
from quantbench.config.secret_words import has_secret, hidden
from quantbench.errors import QuantbenchError
from source import ROOT

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
SMALL: dict[str, Any] = {
    "models": {"bf16": {"source": "org/model", "port": 8000}, "awq": {"source": "org/model-AWQ", "port": 8001}},
    "workloads": {"chat": {"prompts": "p.jsonl", "concurrency": [1, 8], "max_tokens": [128]}},
}
HF, SK = "hf_" + "aB3dE5gH7jK9" * 2, "sk-proj-" + "Zx9" * 8
"""Of the shape of real ones."""


def plan(**changes: Any) -> Plan:
    return make_plan(deep_merge(SMALL, changes), SCHEMA)


def refused(**changes: Any) -> QuantbenchError:
    with pytest.raises(QuantbenchError) as caught:
        plan(**changes)
    assert caught.value.remedy
    return caught.value


def args(*words: str) -> dict[str, Any]:
    return {"server": {"args": [*words]}}


def env(**variables: str) -> dict[str, Any]:
    return {"server": {"env": variables}}


def model(server: dict[str, Any]) -> dict[str, Any]:
    return {"models": {"awq": server}}


OURS: list[tuple[dict[str, Any], str, str]] = [
    (args("--hos", "0.0.0.0"), "server.args has --hos, which vLLM may read as --host, which", "loopback"),
    (
        args("--served_model_name", "x"),
        "has --served_model_name, which vLLM may read as --serv",
        "models.*.served_name",
    ),
    (args("--api_ke", "k"), "has --api_ke, which vLLM may read as --api-key", "loopback"),
    (args("--uds=/tmp/s"), "server.args has --uds, which", "loopback"),
    (args("--root-path", "/x"), "server.args has --root-path, which", "loopback"),
    (args("--ssl-keyfile", "k.pem"), "server.args has --ssl-keyfile, which", "loopback"),
    (args("--config", "more.yaml"), "server.args has --config, which", "items of server.args"),
    (args("--host.x", "1"), "server.args has --host.x, which vLLM may read as --host", "loopback"),
    (args("--host 0.0.0.0"), "server.args has --host and more in one item", "an item of its own"),
    (args("--seed", "1", "--max-num", "4"), "has --max-num, which vLLM may read as --max-num-seqs", "max_num_seqs"),
    (args("-q", "fp8"), "server.args has -q, which vLLM may read as --quantization", "models.*.quantize_flag"),
    (args("-h"), "server.args has -h, which vLLM may read as --help", "ends the server"),
    (model(args("--disable-log-stats")), "server.args of models.awq has --disable-log-stats", "log"),
    (env(VLLM_HOST_IP="10.0.0.1"), "server.env sets VLLM_HOST_IP", "loopback"),
    (model(env(CUDA_VISIBLE_DEVICES="1")), "server.env of models.awq sets CUDA_VISIBLE_DEVICES", "lanes.*.devices"),
    (env(VLLM_LOGGING_LEVEL="ERROR"), "server.env sets VLLM_LOGGING_LEVEL", "log"),
    (env(VLLM_MODEL_REDIRECT_PATH="x"), "server.env sets VLLM_MODEL_REDIRECT_PATH", "models.*.source"),
    (env(QUANTBENCH_OWNER="x"), "server.env sets QUANTBENCH_OWNER", "shell"),
    ({"server": {"command": ["env", "VLLM_PORT=1", "vllm"]}}, "server.command sets VLLM_PORT", "loopback"),
    (model({"source": "--host=0.0.0.0"}), "models.awq.source '--host=0.0.0.0' begins with a dash", "./"),
    (model({"served_name": "-x"}), "models.awq.served_name '-x' begins with a dash", "correct models.awq.served_name"),
]


@pytest.mark.parametrize(("changes", "words", "remedy"), OURS)
def test_what_is_quantbenchs_own_is_refused_with_the_key_to_set_instead(
    changes: dict[str, Any], words: str, remedy: str
) -> None:
    error = refused(**changes)
    assert words in error.what
    assert remedy in error.remedy


SECRETS: list[tuple[dict[str, Any], str]] = [
    (env(HF_TOKEN="something"), "server.env holds HF_TOKEN, which looks like a secret"),
    (model(env(MY_API_KEY="something")), "models.awq.server.env holds MY_API_KEY"),
    ({"models": {"awq": {"env": {"dbPassword": "something"}}}}, "models.awq.env holds dbPassword"),
    (env(AWS_ACCESS_KEY_ID="something"), "holds AWS_ACCESS_KEY_ID"),
    (env(PASSWORD="12345678"), "holds PASSWORD"),
    (env(NOTE=HF), "server.env holds NOTE"),
    (env(NOTE="sk-something"), "server.env holds NOTE"),
    (env(NOTE="hf_something"), "server.env holds NOTE"),
    (env(http_proxy="http://me:something@proxy:3128"), "server.env holds http_proxy"),
    (env(**{HF: "1"}), "server.env holds a value"),
    ({"server": {"env": {"HF_TOKEN": 123456789012}}}, "server.env holds HF_TOKEN"),
    ({"server": {"env": "HF_TOKEN=something"}}, "server.env holds HF_TOKEN"),
    ({"server": {"env": [{"HF_TOKEN": "something"}]}}, "server.env holds HF_TOKEN"),
    ({"server": {"env": {"MORE": {"HF_TOKEN": "something"}}}}, "server.env.MORE holds HF_TOKEN"),
    (args("--auth-token", "something"), "server.args holds --auth-token"),
    (args("--x.api_key=something"), "server.args holds --x.api_key"),
    (args("--kv-transfer-config", '{"a": {"access_key": "something"}}'), "server.args holds access_key"),
    (args("--tool-server", SK), "server.args holds a value"),
    (args("--download-dir=https://me:something@host/x"), "server.args holds --download-dir"),
    ({"server": {"command": ["env", "HF_TOKEN=something", "vllm"]}}, "server.command holds HF_TOKEN"),
    (model({"source": HF}), "models.awq.source holds a value"),
    (model({"label": f"AWQ {SK}"}), "models.awq.label holds a value"),
    (model({"endpoint": "http://me:something@host:8000"}), "models.awq.endpoint holds a user or a password"),
    (model({"endpoint": "me:something@host:8000"}), "models.awq.endpoint holds a user or a password"),
    (model({"endpoint": "https://something@host"}), "models.awq.endpoint holds a user or a password"),
    (model({"endpoint": "https://host/v1?api_key=something"}), "models.awq.endpoint holds a value"),
    ({"cost": {"source": "https://me:something@prices/x"}}, "cost.source holds a value"),
    ({"nonsense": f"Bearer {SK}"}, "nonsense holds a value"),
]


@pytest.mark.fault(
    "a secret in a configuration, by its name, its shape or in a URL (server.args, server.env, endpoint …)",
    "refused when the plan is made, with the key and the way round (export it); the secret is not repeated",
)
@pytest.mark.parametrize(("changes", "words"), SECRETS)
def test_a_secret_is_refused_and_not_repeated(changes: dict[str, Any], words: str) -> None:
    error = refused(**changes)
    assert words in error.what
    assert "export it" in error.remedy
    for secret in (HF, SK, "something", "12345678"):
        assert secret not in str(error)


def test_a_flag_with_a_key_is_refused_without_its_value() -> None:
    for words in (
        ("--api-key", "something"),
        ("--api-key=something",),
        ("--api-key something",),
        ("--hf-tok=something",),
    ):
        assert "something" not in str(refused(**args(*words)))


HONEST: list[dict[str, Any]] = [
    args("--max-num-batched-tokens", "8192", "--enable-chunked-prefill", "--kv-cache-dtype", "fp8", "-O3"),
    args("--tokenizer", "org/hf_transformers", "--tokenizer-mode", "hf", "--long-prefill-token-threshold", "256"),
    args("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}', "--compilation-config.mode", "3"),
    args("--hf-overrides", '{"pad_token": "<pad>", "eos_token": "</s>"}', "--hf_overrides.image_token", "<image>"),
    args("--chat-template", "my template.jinja", "--limit-mm-per-prompt", '{"image": 0}', "--async-scheduling"),
    args("--trust-remote-code", "--revision", "refs/pr/1", "--download-dir", "/data/sk-models/x", "--no-enforce-eager"),
    args("-tp", "1", "-pp", "2", "--attention-backend", "FLASH_ATTN", "--logits-processors", "a.b:C"),
    env(OMP_NUM_THREADS="7", LD_PRELOAD="/usr/lib/libtcmalloc.so", PYTHONPATH="plugins"),
    env(VLLM_USE_FASTOKENS="1", VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE="9", TOKENIZERS_PARALLELISM="false"),
    env(HF_TOKEN="", HF_TOKEN_PATH="/home/me/.token", HF_HUB_DISABLE_IMPLICIT_TOKEN="1"),
    env(https_proxy="http://proxy:3128", VLLM_ATTENTION_BACKEND="FLASHINFER"),
    env(VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD="256"),
    env(GOOGLE_APPLICATION_CREDENTIALS="/home/me/gcs.json", _X1="a=b", lower_case="1"),
    {"server": {"command": ["env", "VLLM_CACHE_ROOT=/data/cache", "python", "-m", "vllm.entrypoints.cli.main"]}},
    model({"source": "org/sk-bert-base-v2", "served_name": "hf_model", "label": "AWQ: a@b, 4:1 — sk-learn"}),
    model({"source": "models/hf_llama3", "label": "sk-test-bert, the bearer certificate of 2026"}),
    args("--tokenizer", "hf_llama3", "--hf-config-path", "models/sk-bert-base-2"),
    model({"source": "./-odd", "quantize_flag": "fp8"}),
    model({"endpoint": "https://gateway.example:8443/llm/v1"}),
    {"quality": {"notes": {"find-key": "BF16 gave a wrong key: token 17", "api_key": "fine"}}},
    {"cost": {"source": "https://prices.example/gpu?page=2#key", "hourly_price": 2}},
]  # fmt: skip


@pytest.mark.parametrize("changes", HONEST)
def test_honest_settings_pass(changes: dict[str, Any]) -> None:
    before = copy.deepcopy(changes)
    made = plan(**changes)
    assert changes == before
    for key in ("args", "env"):
        if key in changes.get("server", {}):
            assert made.config["server"][key] == changes["server"][key]


NO_NAMES = ["", "A=B", "A B", "A;touch x;B", "1A", "A\n", "A-B", "Ä", "$(x)"]


@pytest.mark.fault(
    "a variable's name in server.env that no shell takes (empty, with =, ; or a line end)",
    "refused when the plan is made, with the key; serve.sh can hold no command of its own",
)
@pytest.mark.parametrize("name", NO_NAMES)
def test_a_variable_has_a_name_that_every_shell_takes(name: str) -> None:
    assert "server.env: " in refused(**env(**{name: "x"})).what
    assert "models.awq.server.env: " in refused(**model(env(**{name: "x"}))).what


@pytest.mark.fault(
    "a name that ends in a line end (model, workload, lane, profile, device)",
    "refused when the plan is made, with the key",
)
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"models": {"beta\n": {"source": "org/x", "port": 8002}}}, "models: "),
        ({"workloads": {"chat\n": {"prompts": "p", "concurrency": [1], "max_tokens": [8]}}}, "workloads: "),
        ({"lanes": {"gpu\n": {"devices": ["0"]}}}, "lanes: "),
        ({"lanes": {"gpu0": {"devices": ["0\n"]}}}, "lanes.gpu0.devices.0: "),
        ({"gpu": "h100\n"}, "gpu: "),
    ],
)
def test_names_end_where_they_seem_to_end(changes: dict[str, Any], where: str) -> None:
    assert f"config: {where}" in refused(**changes).what


def patterns(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["pattern"]] if isinstance(node.get("pattern"), str) else []
        return own + [found for item in node.values() for found in patterns(item)]
    return [found for item in node for found in patterns(item)] if isinstance(node, list) else []


def test_no_pattern_of_the_schema_ends_in_a_dollar() -> None:
    assert len(patterns(SCHEMA)) >= 7
    assert [pattern for pattern in patterns(SCHEMA) if pattern.endswith("$")] == []


@pytest.mark.fault(
    "a NUL or half a character in a value (server.args, server.env, a label …)",
    "refused when the plan is made, with the key",
)
@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_no_value_has_what_no_program_takes(text: str) -> None:
    for changes, key in (
        (args("--seed", text), "server.args.1"), (env(A=text), "server.env.A"), (env(**{text: "x"}), "server.env"),
        ({"server": {"command": [text]}}, "server.command.0"), (model({"label": text}), "models.awq.label"),
    ):  # fmt: skip
        found = refused(**changes).what
        assert key in found
        assert "no program takes" in found
        assert text not in found


@pytest.mark.fault(
    "a server, an endpoint or a library prints a secret of the caller's environment",
    "messages, events and kept facts quote it as [NAME]",
)
@given(st.text("0123 =/\n"), st.text("abcxyz.+/", min_size=6), st.text("0123 &"))
def test_what_is_quoted_has_no_secret_of_the_environment(before: str, value: str, after: str) -> None:
    shown = hidden(f"{before}{value}{after}", {"MY_TOKEN": value, "HOME": before, "SHORT_KEY": "1"})
    assert shown == f"{before}[MY_TOKEN]{after}"
    assert hidden(f"{before}{after}", {}) == f"{before}{after}"
    assert not has_secret("a" * 10**6), "in linear time: a log may have such a line"
    assert not has_secret(hidden(f"x {HF} y {SK} {before}", {}))
