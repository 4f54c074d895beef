"""`quantbench inspect MODEL`: what a model claims and holds, what vLLM will need, and whether a card has the kernels.

It reads config.json and the headers of the weight files, no weights. MODEL is a folder, a GGUF file, a hub id in the
cache, a profile of config/gpus/, or a model of --configfile.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import msgspec
from msgspec import structs

from quantbench import subjects
from quantbench.cli import argument_types as kind
from quantbench.cli.inspect_output import text
from quantbench.config import schema, settings
from quantbench.config.configuration import Plan
from quantbench.engines.vllm.inspection import Gpu, Subject, inspect
from quantbench.errors import QuantbenchError
from quantbench.observe import cards, checkpoint
from quantbench.records.server import ServerSettings, ServerSpec
from quantbench.serving import model_source

ROOT = Path(__file__).parents[3]
GIVEN = "MODEL"
"""What a model is called in messages that is no model of a configuration."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("model", nargs="?", metavar=GIVEN, help="a folder, a GGUF file, a hub id in the cache, a profile of "
        "config/gpus/, or one of --configfile's models; left out: all of --configfile's")  # fmt: skip
    add("--configfile", type=Path, nargs="+", default=[], metavar="FILE", help="as for snakemake")
    add("--gpu", metavar="NAME", help="a card, such as h100-80gb or 4090 (default: the profile's, else the one here)")
    add(
        "--vram",
        type=kind.positive_number,
        metavar="GIB",
        help="memory that CUDA sees on the card (default: the card's)",
    )
    add("--length", type=kind.positive_integer, metavar="L", help="tokens of a request (default: max_model_len)")
    add("--quantization", metavar="METHOD", help="as --quantization of vLLM, for quantization while loading")
    add("--revision", metavar="NAME", help="branch, tag or commit of a hub model (default: main)")
    add("--log", type=Path, metavar="FILE", help="log of a start of this model: what vLLM said, and the verdict")
    add("--json", action="store_true", help="a JSON list, one object per model")


def run(args: argparse.Namespace) -> int:
    """Print one text per model; 0. Raises QuantbenchError for what is not here, damaged or not understood."""
    plan = _plan(args)
    if plan and (args.quantization or args.revision):
        option, key = ("--quantization", "quantize_flag") if args.quantization else ("--revision", "revision")
        raise QuantbenchError(
            f"{option} is for a folder or a hub id, and a configuration says it itself",
            remedy=f"set models.….{key} there",
        )
    looked_at, absent = _of_plan(plan, args) if plan else ([_alone(args)], [])
    if args.log and len(looked_at) > 1:
        names = ", ".join(subject.spec.model for subject in looked_at)
        raise QuantbenchError(f"--log is of one model, and there are {names}", remedy="name the one that it is of")
    card, log = _card(args, plan), _log(args.log) if args.log else None
    found = [inspect(subject, card, args.length, log) for subject in looked_at]
    if found or not absent:
        print(msgspec.json.format(msgspec.json.encode(found)).decode() if args.json else "\n\n".join(map(text, found)))
    if absent:
        what, remedies = "; ".join(error.what for error in absent), dict.fromkeys(error.remedy for error in absent)
        raise QuantbenchError(what, remedy="; ".join(remedies))
    return 0


# Which models


def _plan(args: argparse.Namespace) -> Plan | None:
    """The configuration that is meant: --configfile, or the profile that MODEL names."""
    profiles = settings.profiles_of(ROOT)
    if args.configfile:
        named = {"gpu": args.gpu} if args.gpu in profiles else {}
        return settings.load(ROOT, named, [path.absolute() for path in args.configfile])
    if args.model in profiles and not Path(args.model).exists():
        return settings.load(ROOT, {"gpu": args.model})
    if args.model is None:
        raise QuantbenchError("no MODEL is named", remedy="name a folder, a hub id or a profile, or give --configfile")
    return None


def _of_plan(plan: Plan, args: argparse.Namespace) -> tuple[list[Subject], list[QuantbenchError]]:
    """The models of a configuration that can be looked at, and why others cannot."""
    names = list(plan.models)
    if args.configfile and args.model is not None:
        if args.model not in names:
            raise QuantbenchError(
                f"{args.model} is none of the configuration's models ({', '.join(names)})",
                remedy="name one of them, or none for all",
            )
        names = [args.model]
    found, absent = [], []
    for name in names:
        spec = msgspec.convert(plan.server_spec(name), ServerSpec)
        try:
            found.append(subjects.subject(plan, spec))
        except QuantbenchError as error:
            absent.append(error)
    return found, absent


def _alone(args: argparse.Namespace) -> Subject:
    limit = max(ServerSettings().max_model_len, args.length or 0)
    try:
        load_format = "dummy" if _config_alone(Path(args.model)) else "auto"
    except OSError as error:
        what = f"{args.model[:80]}{'…' if len(args.model) > 80 else ''} cannot be looked into: {error.strerror}"
        raise QuantbenchError(what, remedy="name a folder, a GGUF file or a hub id") from None
    served = ServerSettings(
        quantization=args.quantization,
        max_model_len=limit,
        load_format=load_format,
        args=("--revision", args.revision) if args.revision else (),
    )
    spec = ServerSpec(model=GIVEN, source=args.model, settings=served)
    try:
        found = subjects.found(spec)
        if found is None:
            model_source.check_source(spec)
    except QuantbenchError as error:
        what = error.what.removeprefix(f"models.{GIVEN}.source: ") + schema.hint(args.model, settings.profiles_of(ROOT))
        remedy = error.remedy.replace(f"models.{GIVEN}.source", GIVEN).replace(f"models.{GIVEN}.revision", "--revision")
        raise QuantbenchError(what, remedy=remedy) from None
    assert found, "what is not here is an error"
    return replace(found, spec=structs.replace(spec, model=args.model))


def _config_alone(folder: Path) -> bool:
    """A folder with a config.json and no file of weights, as one has before a download: the config tells enough."""
    if not folder.is_dir() or not checkpoint.config(folder) or list(folder.glob("*.gguf")):
        return False
    if list(folder.glob("adapter_model.*")):
        return False
    held = checkpoint.weights(folder)
    return not (held.files or held.missing or held.damaged)


# Which card


def _card(args: argparse.Namespace, plan: Plan | None) -> Gpu | None:
    if args.gpu:
        named = Gpu.of(_named(args.gpu))
        return replace(named, usable_gib=args.vram) if args.vram else named
    if args.vram:
        return Gpu(f"a GPU of {args.vram:g} GiB", args.vram)
    return subjects.card(plan)


def _named(name: str) -> cards.Card:
    found = cards.find(name)
    if len(found) == 1:
        return found[0]
    many = ", ".join(card.key for card in found or cards.CARDS)
    what = f"--gpu {name} may be {many}" if found else f"--gpu {name} is none of {many}"
    raise QuantbenchError(what, remedy="name one of them, or give its memory: --vram GIB")


def _log(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise QuantbenchError(
            f"--log {path} cannot be read: {error.strerror}", remedy="name the log of a start"
        ) from None
