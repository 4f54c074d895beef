from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from quantbench.judge import guards
from quantbench.report import pages, plots, render
from quantbench.report.document import Code, Details, Page, Section, bullets, table, text, without_empty_columns
from quantbench.report.marks import code, marked
from report_fixture import Scenario, facts
from runs import but

VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}


class Balance(HTMLParser):
    """Raises on a tag that is closed out of order; collects visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not {"style", "pre", "code"} & set(self.open):
            self.words.append(data)


def _report(scenario: Scenario) -> str:
    found = facts(scenario)
    drawn = {name: plots.svg_inline(chart) for name, chart in plots.draw_all(found).items()}
    return render.report(pages.report(found, drawn))


@pytest.fixture(scope="module")
def page() -> str:
    return _report(Scenario(variants=("awq", "fp8")))


def test_markdown_keeps_verbatim_text_and_one_blank_line() -> None:
    verbatim = "a\n\n\n```\nb\n```"
    parts = (text("One."), Code(verbatim), Details("More", (text("Two."),)))
    rendered = render.page(Page("T", (), (Section("S", parts),)))
    assert f"````text\n{verbatim}\n````" in rendered
    assert "<details><summary>More</summary>\n\nTwo.\n\n</details>" in rendered
    assert not re.search(r"\n\n\n", rendered.replace(verbatim, ""))


def test_markdown_cells_do_not_break_the_table() -> None:
    rendered = render.page(Page("T", (), (Section("S", (table(["a", "b"], [["x|y", "two\nlines"]]),)),)))
    assert "| x\\|y | two lines |" in rendered
    assert "| --- | --- |" in rendered


def test_the_name_of_another_page_is_a_link() -> None:
    shown = render.page(
        Page("t", (text(f"See {marked('`answers.md`')}, not {code('answers.md')} or `other.md`."),), ())
    )
    assert "See [`answers.md`](answers.md), not `answers.md` or \\`other.md\\`." in shown


def test_columns_without_content_go_and_alignment_follows() -> None:
    slim = without_empty_columns(table(["a", "b", "c"], [["x", "", "1"], ["y", " ", "2"]]))
    assert slim.columns == ("a", "c")
    assert slim.numeric == {1}
    assert bullets(["", ""]) == ()


def test_the_report_is_one_file_and_well_formed(page: str) -> None:
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page.replace('xmlns:xlink="', ""))
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in re.sub(r"url\(#[^)]+\)", "", page)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_the_report_prints_no_broken_value(page: str) -> None:
    for scenario in (None, Scenario(p95=False, price=False, quality=False, cpu=True, blocks=1)):
        parser = Balance()
        parser.feed(page if scenario is None else _report(scenario))
        words = " ".join(parser.words).replace(guards.meanings()["nan_logits"], "title")
        assert not re.search(r"\b(nan|none|null|inf|undefined)\b", words, re.IGNORECASE)


def test_answers_of_a_model_cannot_inject_html(page: str) -> None:
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>" not in page


def test_dark_and_print_are_provided_for(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "currentColor" in page


def test_a_distrusted_run_is_announced_above_all() -> None:
    found = facts(Scenario())
    found = replace(found, verdict=but(found.verdict, trusted=False))
    html = render.report(pages.report(found, {}))
    assert html.index('role="alert"') < html.index('aria-label="Decision"')
