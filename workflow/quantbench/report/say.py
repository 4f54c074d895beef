"""Findings become sentences. `words.yaml` has every sentence once; this is how its braces are filled.

In braces stands a value of the finding and, behind a colon, how it is shown (`SHOWN`). A part in `<<…>>` is left out
where one of its values is blank or not given. Of a sentence's forms `one` and `other` the value `n` chooses, of other
forms the value `form`. A value that is a finding, or a list of them, is said in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, Final

import msgspec
import yaml

from quantbench import wording
from quantbench.records import codes
from quantbench.records.cell import AA_SUFFIX, Cell, served_model
from quantbench.records.finding import Finding, finding
from quantbench.records.metric import METRICS
from quantbench.records.run import Run
from quantbench.report import marks

SOME: Final = 2
"""Names that a list `some` spells out."""
OPTIONAL: Final = re.compile("<<(.*?)>>")
BLANKS: Final[tuple[Any, ...]] = (None, "", [], ())
WORDS_FILE: Final = Path(__file__).with_name("words.yaml")


@cache
def catalogue() -> dict[str, str | dict[str, str]]:
    """{id: sentence, or its forms}, with their marks set; ids are `group.name`, as words.yaml nests them."""
    groups: dict[str, dict[str, Any]] = yaml.safe_load(WORDS_FILE.read_text(encoding="utf-8"))
    return {f"{group}.{name}": _marked(words) for group, entries in groups.items() for name, words in entries.items()}


def _marked(words: str | dict[str, str]) -> str | dict[str, str]:
    return marks.marked(words) if isinstance(words, str) else {form: marks.marked(w) for form, w in words.items()}


class Speech(Formatter):
    """Says findings. labels: {model: name in prose}; place: how a cell is called (its key where not given)."""

    said: set[str] = set()  # noqa: RUF012
    """Ids (`id.form` of those with forms) said in this process; a test looks whether all of the catalogue ever are."""

    def __init__(self, labels: Mapping[str, str] | None = None, place: Callable[[Cell], str] | None = None) -> None:
        self._labels, self._place = labels or {}, place or (lambda cell: cell.key)

    @classmethod
    def of(cls, run: Run) -> Speech:
        """With the names of a run."""
        return cls(run.plan.labels, run.place)

    def __call__(self, what: Finding | str, **values: Any) -> str:
        """The sentence of a finding, or of an id with its values. Raises KeyError for an id without words."""
        found = finding(what, **values) if isinstance(what, str) else what
        id_, words = found.id, catalogue()[found.id]
        if isinstance(words, dict):
            form = found.values["form"] if "other" not in words else "one" if found.values["n"] == 1 else "other"
            id_, words = f"{id_}.{form}", words[form]
        Speech.said.add(id_)
        return self.vformat(
            OPTIONAL.sub(lambda part: self._unless_blank(part[1], found.values), words), (), found.values
        )

    def _unless_blank(self, part: str, values: Mapping[str, Any]) -> str:
        names = (name for _, name, _, _ in self.parse(part) if name)
        return "" if any(values.get(name) in BLANKS for name in names) else part

    def all(self, findings: Iterable[Finding], joint: str = " ") -> str:
        """Several in a row."""
        return joint.join(map(self, findings))

    def label(self, arm: str) -> str:
        """A model's name; of the A/A arm, that it is the baseline again."""
        name = self._labels.get(served_model(arm)) or served_model(arm)
        return f"{name} again" if arm.endswith(AA_SUFFIX) else name

    def reasons(self, entries: Iterable[str], titles: Mapping[str, str] | None = None) -> list[str]:
        """Entries of a `reasons` field (codes and ids of guards) in words, each once."""
        return list(dict.fromkeys(self._reason(entry, titles or {}) for entry in entries))

    def _reason(self, entry: str, titles: Mapping[str, str]) -> str:
        reason = codes.parse(entry)
        if f"code.{reason.name}" in catalogue():
            return self(f"code.{reason.name}", **reason.values)
        return titles.get(entry, marks.code(entry))

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs[str(key)]

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, dict) and set(value) == {"id", "values"}:  # a finding that comes from a file
            value = msgspec.convert(value, Finding)
        if isinstance(value, Finding):
            return self(value)
        if isinstance(value, list | tuple) and format_spec in ("", "&"):
            parts = [self.format_field(v, "") for v in value]
            return wording.listing(parts) if format_spec else "; ".join(parts)
        if format_spec.startswith("#"):
            return wording.plural(value, *format_spec[1:].split("/"))
        if format_spec == "model":
            return self.label(str(value))
        if format_spec == "models":
            return wording.listing(map(self.label, value))
        if format_spec == "place":
            cell = value if isinstance(value, Cell) else Cell.parse(str(value))
            return self._place(cell) if cell else str(value)
        if format_spec == "places":
            return wording.listing(self.format_field(v, "place") for v in value)
        if format_spec == "codes":
            return wording.listing(map(marks.code, value))
        if format_spec == "some":
            names = list(map(marks.code, value))
            rest = [f"{len(names) - SOME} more"] if len(names) > SOME + 1 else names[SOME:]
            return wording.listing([*names[:SOME], *rest])
        return SHOWN[format_spec](value)


SHOWN: Final[Mapping[str, Callable[[Any], str]]] = {
    "": str,
    "%": wording.percent,  # 0.123 → 12.3 %
    "%0": lambda x: wording.percent(x, 0),
    "%max": wording.at_most,  # an upper bound, rounded up
    "change": wording.change,  # a ratio, 1.123 → +12.3 %
    "less": wording.reduction,  # a reduction in percent, 63.1 → 63.1 % less
    "ratio": wording.ratio,
    "num": wording.number,
    "int": wording.integer,
    "s": wording.seconds,
    "ms": lambda x: wording.with_unit(x, "ms"),
    "gib": lambda x: wording.with_unit(x, "GiB"),
    "metric": lambda name: METRICS[name].words if name in METRICS else name,
    "metrics": lambda names: wording.listing(METRICS[name].words if name in METRICS else name for name in names),
    "Metrics": lambda names: wording.capitalized(wording.listing(METRICS[name].words for name in names)),
    "p": wording.p_value,
    ",": ", ".join,
    "words": lambda text: str(text).replace("_", " "),
}
"""How a value is shown. Beside these: `{n:#block}` counts ("3 blocks", `{n:#query/queries}`), `model`, `models`,
`place`, `places` name them, `&` makes a list ("a, b and c"), `codes` one of names in code marks, `some`
the same with the rest counted ("`a`, `b` and 9 more"). A list without a how is joined by "; "."""
