"""Pages from sections: Markdown and one self-contained HTML file, through jinja2 templates.

All that a template fills in is text and escaped here, once for Markdown and once for HTML; only marks (`marks`) become
markup. So what a model, a server or a configuration says never is a link, a tag, an image, a heading or a cell's end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from quantbench.report.differences import differences
from quantbench.report.document import Page
from quantbench.report.marks import pieces, plain
from quantbench.report.pages import Report
from quantbench.visible import visible

Filters = Mapping[str, Callable[..., Any]]
TEMPLATES = Path(__file__).parents[2] / "templates"


def page(content: Page) -> str:
    """One Markdown page."""
    template = _markdown().get_template("page.md.j2")
    return _squeeze(template.render(title=content.title, lead=content.lead, sections=content.sections))


def report(content: Report) -> str:
    """The HTML report, one file without anything outside it."""
    chapters = [(section, [(Markup(f.svg), f.caption) for f in figures]) for section, figures in content.chapters]
    lead = [(Markup(figure.svg), figure.caption) for figure in content.lead]
    return _html().get_template("report.html.j2").render(report=content, lead=lead, chapters=chapters)


@cache
def _markdown() -> jinja2.Environment:
    filters: Filters = {"cell": _cell, "heading": _title, "verbatim": _fenced, "summary": _summary}
    return _environment(_prose, filters)


@cache
def _html() -> jinja2.Environment:
    filters: Filters = {
        "heading": _heading,
        "marked": _marked,
        "verbatim": _verbatim,
        "tone": _tone,
        "ci_below": _ci_below,
    }
    return _environment(_inline, filters)


def _environment(as_text: Callable[[str], Markup], filters: Filters) -> jinja2.Environment:
    """Templates in which all that is filled in is text, and escaped as such, unless it is Markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else as_text(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": plain, **filters}
    return environment


# --- Markdown

_SPECIAL: Final = re.compile(
    r"[\\`*~|$]"  # escapes, code, emphasis, strike-through and fences, cells, formulas
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis; within a word it is none
    r"|\](?=\()|\[(?=\[)"  # links; there are no definitions for other kinds, as no line begins with a bracket
    r"|:(?=//)|(?<=www)\.|(?<=[\w.+-])@",  # addresses that GitHub makes links of
    re.IGNORECASE,
)
_OPENS_TAG: Final = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE)
_ENTITY: Final = re.compile(r"&(?=#?\w+;)")
_OPENS_BLOCK: Final = re.compile(r"^(?:\d{1,9}(?=[.)](?:\s|$))|(?=[#>+\-=:\[]))")
"""The place, in a line, before what would make it a heading, a list, a quotation, a rule, a definition or a table's."""


def _prose(text: str) -> Markup:
    """One line of running text."""
    line, kinds = _line(text), [kind for kind, piece in pieces(text) if piece.strip()]
    return Markup(_OPENS_BLOCK.sub(r"\g<0>\\", line) if kinds[:1] == ["text"] else line)


def _title(text: str) -> Markup:
    """A heading's text; a # at its end would be taken for the end of the heading."""
    return Markup(re.sub(r"#$", r"\\#", _line(text)))


def _cell(text: str) -> Markup:
    """A table's cell. Cells are cut before anything else is read, so a bar in `code` is escaped as well."""
    return Markup(_line(text, cell=True))


def _line(text: str, cell: bool = False) -> str:
    """The text on one line, with its marks as Markdown has them."""
    shown: dict[str, Callable[[str], str]] = {
        "text": _escaped,
        "code": _cell_code if cell else _code,
        "bold": lambda words: f"**{_escaped(words)}**",
        "page": _link,
    }
    line = ((kind, re.sub(r"\s+", " ", visible(piece))) for kind, piece in pieces(text))
    return "".join(shown[kind](piece if kind == "text" else piece.strip()) for kind, piece in line if piece).strip()


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", _OPENS_TAG.sub("&lt;", _ENTITY.sub("&amp;", text)))


def _code(text: str) -> str:
    """A span of code, between more backticks than the text has in a row."""
    edge = " " if text.startswith("`") or text.endswith("`") else ""
    ticks = "`" * (longest_run(text) + 1)
    return f"{ticks}{edge}{text}{edge}{ticks}"


def _cell_code(text: str) -> str:
    return _escaped(text) if "\\|" in text else _code(text).replace("|", "\\|")


def _link(name: str) -> str:
    return f"[{_code(name)}]({name})"


def _summary(text: str) -> Markup:
    """HTML in a page of Markdown, which a blank line would end."""
    return escape(" ".join(visible(plain(text)).split()))


def _fenced(text: str) -> Markup:
    """Text as it is, between fences that are longer than any run of backticks in it."""
    shown = visible(text)
    fence = "`" * max(3, longest_run(shown) + 1)
    return Markup(f"{fence}text\n{shown}\n{fence}")


def longest_run(text: str) -> int:
    """How many backticks stand in a row at most."""
    return max(map(len, re.findall("`+", text)), default=0)


def _squeeze(text: str) -> str:
    """At most one blank line in a row outside fences, none at the start, one newline at the end."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        opens = re.fullmatch(r"(`{3,})text", line)
        if opens and not fence:
            fence = opens[1]
        elif fence and line == fence:
            fence = ""
        if line.strip() or fence or (lines and lines[-1].strip()):
            lines.append(line if fence else line.rstrip())
    return "\n".join(lines).strip("\n") + "\n"


# --- HTML


def _inline(text: str) -> Markup:
    """Running text; no line breaks before a percent sign."""
    tags = {"text": "{}", "code": "<code>{}</code>", "bold": "<strong>{}</strong>", "page": "<code>{}</code>"}
    shown = (Markup(tags[kind]).format(visible(piece)) for kind, piece in pieces(text))
    return Markup("").join(shown).replace(" %", "\u00a0%")


def _heading(text: str) -> Markup:
    """A column's name, which may break after an underscore."""
    return _inline(text).replace("_", Markup("_<wbr>"))


_WITH_INTERVAL: Final = re.compile(r"^((?:p\d\d )?[−+\d.,;%\s]+?) (\[[−+\d.,%\s]+\])( [▲▼≈?])?$")


def _ci_below(text: str) -> Markup:
    """A cell that is a value, its interval and its mark, `1.10 [1.03, 1.18] ▲`, with the interval on its own line."""
    return Markup(_WITH_INTERVAL.sub(r'\1\3<span class="ci">\2</span>', str(_inline(text))))


def _tone(cell: str) -> Markup:
    """The class of a table cell: short ones stay on one line."""
    return Markup("s" if len(cell) <= 30 else "")


def _verbatim(text: str) -> Markup:
    """Text as it is, in a `pre`, whose first line end is none of the text's."""
    return Markup("\n{}").format(visible(text))


def _marked(text: str, other: str) -> Markup:
    """The text with the words marked that the other one does not have in that place."""
    shown = (
        Markup("<mark>{}</mark>" if differs else "{}").format(piece)
        for differs, piece in differences(visible(text), visible(other))
    )
    return Markup("\n") + Markup("").join(shown)
