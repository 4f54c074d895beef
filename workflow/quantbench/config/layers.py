"""The layers of a configuration: which file says what, and what a comparison of one's own takes of the shipped files.

The rule: whoever names models of their own (each with a source, an endpoint or a base to quantize) gets the machine of
the profile and nothing that it compares. Entries that only change keys of the profile's models are merged into them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantbench.config.schema import deep_merge
from quantbench.errors import QuantbenchError
from quantbench.records.suite import SETTINGS

Json = dict[str, Any]

MACHINE = ("gpu_name", "match", "lanes", "server", "vllm_python", "llmcompressor_python", "lmeval_python")
"""Keys of a profile that are of the machine; a price is too where it is a quote with source and date."""
LENT = ("lanes", "server", "vllm_python", "llmcompressor_python", "lmeval_python")
"""What a profile lends to a name that has no profile: how servers run here, not what the card is called or costs."""
_OF_PRICE = ("currency", "source", "date")
_TOGETHER = {
    ("cost", "hourly_price"): _OF_PRICE,
    ("workloads", "*", "prompts"): ("template",),
    ("primary", "workload"): ("concurrency", "max_tokens"),
    ("quality", "suites", "*", "kind"): tuple({key for kind in SETTINGS.values() for key in kind.__struct_fields__}),
}
"""Keys that say something about another one: a layer that gives that one leaves behind what lower layers said of it."""


@dataclass(frozen=True)
class Layer:
    """One source of keys. `name`: the file as a person names it, or `--config`; `given`: on the command line."""

    name: str
    values: Mapping[str, Any]
    given: bool = False
    machine_only: bool = False


def merged(layers: Sequence[Layer]) -> Json:
    """All layers in one, later ones win; what belongs together comes from one layer, and so do whole lanes."""
    config: Json = {}
    for layer in layers:
        lanes = layer.values.get("lanes")
        if isinstance(lanes, Mapping) and all(
            isinstance(lane, Mapping) and "devices" in lane for lane in lanes.values()
        ):
            config.pop("lanes", None)  # the first lane is the default: one of a lower layer would be it
        for path, companions in _TOGETHER.items():
            _leave_behind(config, layer.values, path, companions)
        if any("hourly_price" in entry for _, entry in _entries(layer.values, "models")):
            _leave_behind(config, {"cost": {"hourly_price": None}}, ("cost", "hourly_price"), _OF_PRICE)
        config = deep_merge(config, layer.values)
    return config


def stacked(defaults: Layer, profile: Layer, given: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that count, lowest first: all, or for a comparison of one's own the machine of the profile only.

    Raises QuantbenchError for models of which some are one's own and some change those of the profile.
    """
    if has_own_models(given):
        defaults = replace(defaults, values={key: value for key, value in defaults.values.items() if key != "models"})
    elif not has_own_models([defaults, *given]):
        return (defaults, profile, *given)
    asked = merged([defaults, *given])
    if isinstance(named := merged(given).get("workloads"), Mapping):
        workloads = {name: entry for name, entry in _entries(defaults.values, "workloads") if name in named}
        defaults = replace(defaults, values={**defaults.values, "workloads": workloads})
    served_here = any(not entry.get("endpoint") for _, entry in _entries(asked, "models"))
    kept = set(MACHINE)
    if served_here and _is_quote(profile.values.get("cost")):
        kept.add("cost")
    if _platform(asked) not in (None, _platform(profile.values)):
        kept -= {"lanes", "server"}
    return (defaults, _machine(profile, kept), *given)


def lent(profile: Layer) -> Layer:
    """What a profile lends to a name without a profile."""
    return _machine(profile, LENT)


def has_own_models(layers: Sequence[Layer]) -> bool:
    """Whether these layers say of each of their models where it comes from; QuantbenchError if only of some."""
    models = merged(layers).get("models")
    if not isinstance(models, Mapping):
        return False
    own = {name: not isinstance(entry, Mapping) or _has_origin(entry) for name, entry in models.items()}
    if any(own.values()) and not all(own.values()):
        with_origin, without = (next(name for name, is_own in own.items() if is_own is kind) for kind in (True, False))
        raise QuantbenchError(
            f"config: models.{without} has no source, endpoint or quantize.from, while models.{with_origin} has one",
            remedy=f"give models.{without} one too (models of your own inherit nothing of a profile's), "
            "or leave the sources out to change single keys of the profile's models",
        )
    return bool(own) and all(own.values())


def origin(layers: Sequence[Layer], path: Sequence[str]) -> Layer | None:
    """The last layer in which this path of keys stands; None where it is a default."""
    return next((layer for layer in reversed(layers) if _stands(layer.values, path)), None)


def naming_files(text: str, layers: Sequence[Layer]) -> str:
    """A fault with "(from config/gpus/cpu.yaml)" behind each key that does not come from the one file that was given.

    Where a colon or quotes hold the key to what follows, it stands at the end. Keys are named with their dots, a
    top-level one at the begin only: elsewhere it is a word like others.
    """
    files = [layer for layer in layers if layer.given and layer.name != "--config"]
    paths = {".".join(path): path for layer in layers for path in _paths(layer.values)}
    for key in sorted(paths, key=len, reverse=True):
        found = origin(layers, paths[key])
        if found is None or (found.given and len(files) < 2):
            continue
        before = r"(?<![\w./-])" if "." in key else r"(?:(?<=^config: )|^)(?:unknown key ')?"
        if hit := re.search(rf"{before}{re.escape(key)}(?![\w-]|\.\w)", text):
            place = len(text) if text[hit.end() :].startswith((":", "'")) else hit.end()
            text = f"{text[:place]} (from {found.name}){text[place:]}"
    return text


def _has_origin(entry: Mapping[str, Any]) -> bool:
    recipe = entry.get("quantize")
    base = recipe.get("from") if isinstance(recipe, Mapping) else None
    return any(value not in (None, "null") for value in (entry.get("source"), entry.get("endpoint"), base))


def _is_quote(cost: Any) -> bool:
    return isinstance(cost, Mapping) and all(cost.get(key) is not None for key in ("hourly_price", "source", "date"))


def _platform(values: Mapping[str, Any]) -> Any:
    server = values.get("server")
    return server.get("platform") if isinstance(server, Mapping) else None


def _machine(profile: Layer, keys: Collection[str]) -> Layer:
    return Layer(profile.name, {k: v for k, v in profile.values.items() if k in keys}, machine_only=True)


def _entries(values: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The named entries of a section, as far as it has the right shape: it is not validated yet."""
    section = values.get(key)
    for name, entry in section.items() if isinstance(section, Mapping) else ():
        if isinstance(entry, Mapping):
            yield name, entry


def _leave_behind(config: Any, layer: Any, path: Sequence[str], companions: Sequence[str]) -> None:
    """Take `companions` out of `config` wherever `layer` gives the key at `path` and the same layer not them."""
    if not isinstance(config, dict) or not isinstance(layer, Mapping):
        return
    if len(path) == 1:
        for key in companions if path[0] in layer else ():
            config.pop(key, None)
        return
    for name in layer if path[0] == "*" else path[:1]:
        _leave_behind(config.get(name), layer.get(name), path[1:], companions)


def _stands(values: Any, path: Sequence[str]) -> bool:
    for word in path:
        if not isinstance(values, Mapping) or word not in values:
            return False
        values = values[word]
    return True


def _paths(values: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        path = (*before, str(key))
        yield path
        if isinstance(value, Mapping):
            yield from _paths(value, path)
