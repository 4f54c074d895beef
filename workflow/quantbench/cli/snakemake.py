"""`.venv/bin/snakemake`: snakemake, after a look for slips in its options that it answers with a traceback.

Snakemake reads the files of `--configfile` before any line of ours, and takes every word after that option for one.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from quantbench.config.settings import read_yaml
from quantbench.errors import QuantbenchError

_FILES = ("--configfile", "--configfiles")
_VALUES = ("--config", "-C")
_BUILT_IN = ("local", "dryrun", "touch")
_SUFFIXES = (".yaml", ".yml", ".json")


def main() -> int:
    """Run snakemake with the words of the command line; 2 where one of them is a slip, 130 for Ctrl-C."""
    try:
        check(sys.argv[1:])
        check_executor(sys.argv[1:])
        from snakemake.cli import main as snakemake

        snakemake()  # type: ignore[no-untyped-call]
    except QuantbenchError as error:
        print(f"quantbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("quantbench: interrupted before anything was done", file=sys.stderr)
        return 130
    return 0


def check(words: Sequence[str]) -> None:
    """Raise QuantbenchError for a configuration file that cannot be read, or a target that stands where options do."""
    for option, value in _values(words):
        if option in _VALUES:
            key, is_value, given = value.partition("=")
            if not is_value:
                raise _misplaced(option, value, f"{value} is no key=value")
            if not key.isidentifier():
                above, _, below = key.partition(".")
                remedy = (
                    f"write {option} '{above}={{{below}: {given}}}'" if below else "write a key of config/README.md"
                )
                raise QuantbenchError(f"{option} {value}: {key} is no key at the top", remedy=remedy)
        elif not value.endswith(_SUFFIXES):
            raise _misplaced(option, value, f"{value} is no configuration file (.yaml, .yml, .json)")
        else:
            read_yaml(Path(value), empty=False)


def check_executor(words: Sequence[str]) -> None:
    """Raise QuantbenchError for a profile whose executor is not installed; snakemake then prints all its options."""
    for option, value in itertools.pairwise(words):
        profile = Path(value) / "profile.yaml"
        if option == "--profile" and profile.is_file():
            name = str(read_yaml(profile).get("executor", "local"))
            if name not in _BUILT_IN and find_spec(f"snakemake_executor_plugin_{name.replace('-', '_')}") is None:
                raise QuantbenchError(f"the executor '{name}' of {value} is not installed", remedy="make setup-fleet")


def _misplaced(option: str, value: str, what: str) -> QuantbenchError:
    return QuantbenchError(
        f"{what}, and {option} takes every word that follows it",
        remedy=f"put targets behind `--`, at the end: snakemake --cores 1 {option} … -- {value}",
    )


def _values(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(option, value) of the options that take every word up to the next option."""
    option = None
    for word in words:
        if word == "--":
            return
        if word.startswith("-"):
            name, _, value = word.partition("=")
            option = name if name in (*_FILES, *_VALUES) else None
            if option and value:
                yield option, value
        elif option:
            yield option, word


if __name__ == "__main__":
    sys.exit(main())
