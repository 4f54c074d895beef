"""Pages from sections: Markdown and one self-contained HTML file, through jinja2 templates."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from quantbench.report.document import Page
from quantbench.report.pages import PAGES, Report

TEMPLATES = Path(__file__).parents[2] / "templates"


def markdown(template: str, **context: Any) -> str:
    """Render a Markdown template; several blank lines become one."""
    environment = _environment(autoescape=False)
    environment.filters |= {"cell": _markdown_cell, "prose": _prose}
    text = environment.get_template(template).render(**context)
    return _squeeze(text)


def html(template: str, **context: Any) -> str:
    """Render an HTML template; everything is escaped but `inline` marks and charts passed as Markup."""
    environment = _environment(autoescape=True)
    environment.filters |= {
        "inline": _inline,
        "heading": _heading,
        "marked": _marked,
        "tone": _tone,
        "ci_below": _ci_below,
    }
    return environment.get_template(template).render(**context)


def page(content: Page) -> str:
    """One Markdown page."""
    return markdown("page.md.j2", title=content.title, lead=content.lead, sections=content.sections)


def report(content: Report) -> str:
    """The HTML report, one file without anything outside it."""
    chapters = [(section, [(Markup(f.svg), f.caption) for f in figures]) for section, figures in content.chapters]
    lead = [(Markup(figure.svg), figure.caption) for figure in content.lead]
    return html("report.html.j2", report=content, lead=lead, chapters=chapters)


def _environment(*, autoescape: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _markdown_cell(text: str) -> str:
    """Table cells are one line and must not end the column."""
    return _prose(text).replace("|", "\\|")


def _prose(text: str) -> str:
    """One line in which names and quoted answers open no HTML tag; what stands in `code` is shown as it is."""
    pieces = re.split(r"(`[^`]*`)", " ".join(str(text).split()))
    return "".join(_linked(p) if p[:1] == "`" else re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", p) for p in pieces)


def _linked(code: str) -> str:
    """The name of another page, which lies beside this one, is a link; other `code` stays as it is."""
    name = code.strip("`")
    return f"[{code}]({name})" if name.removesuffix(".md") in PAGES and name.endswith(".md") else code


def _inline(text: str) -> Markup:
    """Escape, then `code` and **bold**; no line breaks before a percent sign."""
    safe = str(escape(text)).replace(" %", "\u00a0%")
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe))


def _ci_below(text: Markup) -> Markup:
    """A cell that is a value, its interval and its mark, `1.10 [1.03, 1.18] ▲`, with the interval on its own line."""
    return Markup(re.sub(r"^([^\[]+?) (\[[^\]]+\])( \S)?$", r'\1\3<span class="ci">\2</span>', str(text)))


def _marked(text: str, other: str) -> Markup:
    """The text with the words marked that the other one does not have in that place."""
    words, others = re.findall(r"\S+|\s+", text), re.findall(r"\S+|\s+", other)
    pieces = []
    for tag, _, _, start, end in difflib.SequenceMatcher(None, others, words, autojunk=False).get_opcodes():
        piece = escape("".join(words[start:end]))
        pieces.append(piece if tag == "equal" or not piece else Markup("<mark>{}</mark>").format(piece))
    return Markup("").join(pieces)


def _tone(cell: str) -> str:
    """The class of a table cell: short ones stay on one line."""
    return "s" if len(cell) <= 24 else ""


def _heading(text: str) -> Markup:
    """A column's name, which may break after an underscore."""
    return Markup(str(_inline(text)).replace("_", "_<wbr>"))


def _squeeze(text: str) -> str:
    """At most one blank line in a row outside fences, none at the start, one newline at the end."""
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        mark = re.match(r"`{3,}", line)
        if mark and not fence:
            fence = mark[0]
        elif fence and line == fence:
            fence = ""
        if line.strip() or fence or (lines and lines[-1].strip()):
            lines.append(line if fence else line.rstrip())
    return "\n".join(lines).strip("\n") + "\n"
