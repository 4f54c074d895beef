"""The validated configuration: what is compared, on which lanes, and the narrow dicts that jobs get.

A job's params hold only what its result depends on, so that a change of price never measures anything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantbench.config import cross_checks, package_source, schema, suites
from quantbench.config.layers import Layer, naming_files, origin
from quantbench.config.secret_words import in_config
from quantbench.errors import QuantbenchError
from quantbench.records.block import Beyond
from quantbench.records.cell import AA_SUFFIX, Cell, served_model
from quantbench.records.plan import start_of
from quantbench.records.server import IsoFit, Unfit
from quantbench.records.suite import SuiteSettings, items_file

Json = dict[str, Any]

MEASUREMENT_PROTOCOL = 1
"""Raise it when a change of the measuring code makes old blocks incomparable with new ones."""

DEFAULT_BUDGET_S = 1800.0
"""`budget` on a GPU."""

_KEEP_OUT = (
    "leave it out, as files and pages of a run repeat its configuration: servers inherit the variables of the shell, "
    "so export it there (HF_TOKEN); the key of an endpoint is OPENAI_API_KEY, also exported; "
    "a server of quantbench needs none"
)

_UNITS_S = {"": 60, "s": 1, "min": 60, "h": 3600, "none": 0}
_BITS = {"none": 16.0, "awq": 4.0, "gptq": 4.0, "fp8": 8.0}


@dataclass(frozen=True)
class Plan:
    """What one configuration asks for. `config` is complete: defaults are filled in; `layers` say what stands where."""

    config: Json
    layers: Sequence[Layer] = ()
    unfit: Mapping[str, Unfit] = field(default_factory=dict)
    """Selected models that do not fit into the memory of their GPUs (`fitting`): left out of all that is measured."""
    iso_memory: Mapping[str, Mapping[str, IsoFit]] = field(default_factory=dict)
    """{workload: {model: with how many requests it is measured}}, of workloads that ask for `iso_memory`, if known."""

    @property
    def gpu(self) -> str:
        """Profile name; the folder under results/."""
        return str(self.config["gpu"])

    @property
    def gpu_name(self) -> str:
        """The gpu_name column."""
        return str(self.config["gpu_name"] or self.config["gpu"])

    @property
    def models(self) -> dict[str, Json]:
        """Selected models in order, the baseline first."""
        ordered = sorted(self.selected, key=lambda name: name != self.baseline)
        return {name: self.config["models"][name] for name in ordered if name not in self.unfit}

    @property
    def selected(self) -> list[str]:
        """The models that are asked for, in order, whether or not they fit."""
        return list(self.config["select"] or self.config["models"])

    @property
    def baseline(self) -> str:
        """The model that the others are compared with: where the declared one does not fit, the first that does."""
        declared = str(self.config["baseline"])
        fitting = (name for name in self.selected if name not in self.unfit)
        return next(fitting, declared) if declared in self.unfit else declared

    @property
    def variants(self) -> list[str]:
        """The selected models but the baseline."""
        return [name for name in self.models if name != self.baseline]

    @property
    def primary(self) -> Json:
        """The declared primary cell and metric, with nulls resolved."""
        declared = self.config["primary"]
        name = declared["workload"] or next(iter(self.config["workloads"]))
        workload = self.config["workloads"][name]
        return {
            "workload": name,
            "concurrency": declared["concurrency"] or max(workload["concurrency"]),
            "max_tokens": declared["max_tokens"] or workload["max_tokens"][0],
            "metric": declared["metric"],
        }

    @property
    def arms(self) -> list[str]:
        """Everything that is measured: the models, and the A/A arm if it is asked for."""
        return [*self.models, *([self.baseline + AA_SUFFIX] if self.config["aa_control"] else [])]

    @property
    def grid(self) -> list[Cell]:
        """The cells in which all models are measured."""
        return [
            Cell.of(name, concurrency, max_tokens)
            for name, workload in self.config["workloads"].items()
            for concurrency in workload["concurrency"]
            for max_tokens in workload["max_tokens"]
        ]

    def cells(self, arm: str) -> list[Cell]:
        """The cells of one arm: the grid, and what `iso_memory` adds to it; the A/A arm has the primary cell only."""
        if arm.endswith(AA_SUFFIX):
            return [Cell.of_row(self.primary)]
        grid, own = dict.fromkeys(self.grid), [cells[arm] for cells in self.iso_cells.values()]
        return [*grid, *(cell for cell in own if cell not in grid)]

    @property
    def iso_cells(self) -> dict[str, dict[str, Cell]]:
        """{workload: {model: its cell of `iso_memory`}}, without workloads in which the same number fits all models."""
        return {
            workload: {
                model: Cell.of(workload, fit.concurrency, max(self.config["workloads"][workload]["max_tokens"]))
                for model, fit in fits.items()
            }
            for workload, fits in self.iso_memory.items()
            if len(fits) == 1 or len({fit.concurrency for fit in fits.values()}) > 1
        }

    def blocks(self, cell: Cell, on_disk: int = 0) -> int:
        """Blocks of a cell: as configured, and never fewer than are on disk (measured evidence is not dropped)."""
        return max(int(self.config["blocks"]) + int(self.config["extra_blocks"].get(cell.key, 0)), on_disk)

    def beyond(self, cell: Cell, number: int) -> Beyond | None:
        """How block `number` of a cell comes that lies beyond `blocks`: see `records.block.BlockContext`."""
        if number <= int(self.config["blocks"]):
            return None
        return "round" if self.budget_s > 0 and number > self.blocks(cell) else "extra"

    @property
    def suites(self) -> dict[str, SuiteSettings]:
        """The quality suites by name, first that of `quality.prompts`; none where quality is left out."""
        return suites.of_quality(self.config["quality"])

    @property
    def starts(self) -> int:
        """How often each server is started for its blocks, at most: see `starts_if_cheap`."""
        stated, blocks = self.config["starts"], int(self.config["blocks"])
        # Fewer than two blocks of a start do not tell what differs between starts from what does between blocks.
        return int(stated) if stated else min(2, max(1, blocks // 2))

    @property
    def starts_if_cheap(self) -> bool:
        """Whether a server is started again only if that takes little time, which its first start shows."""
        return not self.config["starts"]

    def starts_on(self, mode: str) -> int:
        """The same for the order of blocks on a lane: one that restarts goes through its models again only if asked."""
        return 1 if mode == "restart" and self.starts_if_cheap else self.starts

    def start_of(self, block: int) -> int:
        """Which start (1, 2, …) of its server block `block` of a cell is of."""
        return start_of(block, int(self.config["blocks"]), self.starts)

    @property
    def budget_s(self) -> float:
        """Seconds per lane for further blocks after the planned ones."""
        asked = self.config["budget"]
        if asked is None:
            ours = any(not model["endpoint"] for model in self.models.values())
            return DEFAULT_BUDGET_S if ours and self.config["server"]["platform"] == "cuda" else 0.0
        unit = str(asked).lstrip("0123456789. ")
        return float(str(asked).removesuffix(unit) or 0) * _UNITS_S[unit]

    def lane_of(self, model: str) -> str:
        """Name of the lane that serves a model (or the A/A arm of it)."""
        return str(self.config["models"][served_model(model)]["lane"] or next(iter(self.config["lanes"])))

    def gpus(self, model: str) -> int:
        """GPUs that serve a model: as configured, else its lane's devices, or as many as its arguments use of them."""
        stated = self.config["models"][model]["gpus"]
        return int(stated) if stated else cross_checks.gpus_used(self.config, model)

    def differs_in(self, model: str) -> list[str]:
        """All that a model may differ in from the declared baseline, which itself differs in nothing."""
        return [] if model == self.config["baseline"] else list(self.config["models"][model]["differs_in"])

    def server_spec(self, arm: str) -> Json:
        """All that defines the server of an arm, and nothing else: a change here, and only here, is another server."""
        name = served_model(arm)
        model = self.config["models"][name]
        lane = self.lane_of(name)
        settings = schema.deep_merge(self.config["server"], model["server"])
        platform, timeout = settings.pop("platform"), settings.pop("start_timeout_s")
        devices = self.config["lanes"][lane]["devices"]
        settings |= {
            "quantization": model["quantize_flag"],
            "load_format": model["load_format"],
            "tensor_parallel_size": len(devices),
            "start_timeout_s": timeout,
        }
        if model["revision"]:
            settings["args"] = [*settings["args"], "--revision", model["revision"]]
        return {
            "model": name,
            "lane": lane,
            "devices": devices,
            "mode": self.config["lanes"][lane]["mode"],
            "endpoint": model["endpoint"],
            "port": model["port"] or 0,
            "source": self.source(name),
            "served_name": model["served_name"] or name,
            "platform": platform,
            "claimed": {"quantization": self.claim(name), "bits": self.bits(name)},
            "settings": settings,
        }

    def measured_spec(self, arm: str) -> Json:
        """The part of `server_spec` that a result depends on: another port or more patience measures nothing again."""
        return measured_part(self.server_spec(arm))

    def places(self) -> dict[str, Json]:
        """The rest of it, per model: where its server is, and how long a start may take."""
        specs = {name: self.server_spec(name) for name in self.models}
        return {
            name: {"port": s["port"], "lane": s["lane"], "start_timeout_s": s["settings"]["start_timeout_s"]}
            for name, s in specs.items()
        }

    def source(self, name: str) -> str:
        """Hub id or folder that vLLM loads; models made here lie below their profile: another may use their names."""
        if self.made_here(name):
            return f"models/{self.gpu}/{name}"
        return str(self.config["models"][name]["source"] or "")

    def made_here(self, name: str) -> bool:
        """True for the demo model and for models that are quantized or unpacked here."""
        model = self.config["models"][name]
        return not model["endpoint"] and (
            bool(model["quantize"]) or model["source"] == "demo" or self.unpacked_here(name)
        )

    def unpacked_here(self, name: str) -> bool:
        """True for models that are a GGUF file, here or in a package, of which a BF16 folder is made."""
        model = self.config["models"][name]
        source = str(model["source"] or "")
        return not model["endpoint"] and (bool(model["unpack"]) or source.startswith(package_source.PREFIX))

    def claim(self, name: str) -> str:
        """What the model says it is."""
        model = self.config["models"][name]
        return "compressed-tensors" if model["quantize"] else str(model["quantization"])

    def bits(self, name: str) -> float | None:
        """Expected bits per quantized weight, None where only the checkpoint can tell."""
        model = self.config["models"][name]
        if model["bits"] is not None:
            return float(model["bits"])
        if model["quantize"]:
            return 4.0 if model["quantize"]["scheme"].startswith("W4") else 8.0
        return _BITS.get(model["quantization"])

    def block_knobs(self, cell: Cell) -> Json:
        """What one block's result depends on beside the server and the prompt file.

        Raises QuantbenchError for a point that the servers cannot answer: it may be asked for outside the grid.
        """
        limit = cross_checks.longest_context(self.config, list(self.models))
        if why := cross_checks.no_room(cell.max_tokens, limit):
            raise QuantbenchError(f"config: {cell.key}: {why}", remedy="ask for fewer tokens, or raise that key")
        entry, block = self.config["workloads"][cell.workload], self.config["block"]
        return {
            "protocol": MEASUREMENT_PROTOCOL,
            "workload": cell.workload,
            "style": entry["style"],
            "endpoint": entry["endpoint"],
            "template": entry["template"],
            "concurrency": cell.concurrency,
            "max_tokens": cell.max_tokens,
            "min_seconds": block["min_seconds"],
            "min_requests": block["min_requests_per_slot"] * cell.concurrency,
            "warmup_requests": block["warmup_requests_per_slot"] * cell.concurrency,
            "warmup_max_tokens": block["warmup_max_tokens"],
            "timeout_s": block["timeout_s"],
        }

    def label(self, arm: str) -> str:
        """Name in reports."""
        name = served_model(arm)
        text = str(self.config["models"][name]["label"] or name)
        return f"{text} (A/A)" if arm.endswith(AA_SUFFIX) else text

    def ports(self) -> list[int]:
        """Ports that the selected models name; those without get a free one when they start."""
        return [model["port"] for model in self.models.values() if model["port"] and not model["endpoint"]]

    def devices(self) -> list[str]:
        """All devices that the selected models use, sorted; what a run claims."""
        lanes = {self.lane_of(name) for name in self.models if not self.config["models"][name]["endpoint"]}
        return sorted({device for lane in lanes for device in self.config["lanes"][lane]["devices"]})


def measured_part(spec: Mapping[str, Any]) -> Json:
    """What a result depends on of a whole spec."""
    settings = {key: value for key, value in spec["settings"].items() if key != "start_timeout_s"}
    return {key: value for key, value in spec.items() if key not in ("port", "lane")} | {"settings": settings}


def whole_spec(measured: Mapping[str, Any], place: Mapping[str, Any]) -> Json:
    """`server_spec` from its parts."""
    settings = measured["settings"] | {"start_timeout_s": place["start_timeout_s"]}
    return {**measured, "port": place["port"], "lane": place["lane"], "settings": settings}


def make_plan(config: Mapping[str, Any], config_schema: Mapping[str, Any], layers: Sequence[Layer] = ()) -> Plan:
    """Validate, fill defaults and cross-check; `layers` are what `config` was merged from.

    Raises QuantbenchError with one line that names every faulty key, and its file where that is not the user's own.
    """
    if secrets := dict.fromkeys(f"{key} holds {what}" for key, what in in_config(config)):
        raise QuantbenchError(f"config: {naming_files('; '.join(secrets), layers)}", remedy=_KEEP_OUT)
    filled, faults = schema.filled(config, config_schema)
    plan = Plan(filled, layers)
    if not faults:
        faults = list(cross_checks.of_workload_names(filled))
    if not faults:
        wanted = filled["select_workloads"] or list(filled["workloads"])
        filled["workloads"] = {name: entry for name, entry in filled["workloads"].items() if name in wanted}
        filled["primary"] = _fitting(filled["primary"], filled["workloads"], layers)
        faults = list(cross_checks.of_config(filled))
    schema.raise_for(fault._replace(what=naming_files(fault.what, layers)) for fault in faults)
    return plan


def _fitting(primary: Json, workloads: Json, layers: Sequence[Layer]) -> Json:
    """The primary cell without what a shipped file says of a grid that is another one now: the defaults hold then."""

    def goes(key: str, known: Any) -> bool:
        found = origin(layers, ("primary", key))
        return primary[key] is not None and primary[key] not in known and found is not None and not found.given

    if goes("workload", workloads):
        primary = primary | {"workload": None}
    grid = workloads.get(primary["workload"] or next(iter(workloads)), {})
    return primary | {key: None for key in ("concurrency", "max_tokens") if goes(key, grid.get(key, ()))}


def needed_files(plan: Plan) -> list[tuple[str, Path]]:
    """(key, path) of every file that the configuration names and that must exist before anything starts."""
    files = [(f"workloads.{name}.prompts", Path(w["prompts"])) for name, w in plan.config["workloads"].items()]
    files += [(suites.items_key(name), Path(p)) for name, suite in plan.suites.items() if (p := items_file(suite))]
    for name, model in plan.models.items():
        if plan.made_here(name) and model["quantize"] and model["quantize"]["method"] != "rtn":
            text = model["quantize"]["calibration"]["file"]
            files.append((f"models.{name}.quantize.calibration.file", Path(text)))
    return files
