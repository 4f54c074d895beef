"""Whatever a model, a server or a configuration says is text on every page: the page's structure is the same."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from quantbench.errors import QuantbenchError
from quantbench.judge.decision import decide
from quantbench.records.quality import CheckResult
from quantbench.records.run import Run
from quantbench.records.server import Completion
from quantbench.report import plots, render
from quantbench.report.decision import Card
from quantbench.report.differences import MOST
from quantbench.report.document import Bullets, Code, Compare, Details, Page, Part, Section, table, text
from quantbench.report.marks import END, STARTS, bold, code
from quantbench.report.pages import PAGES, Report, report
from quantbench.visible import visible
from report_fixture import Scenario, facts
from runs import but

ADDRESS = re.compile(r"(https?|ftp)://|\bwww\.|[\w.+-]@", re.IGNORECASE)
"""What GitHub makes a link of, without any mark."""
FRAGMENTS = (
    *(
        "![t](https://evil.example/p.png)",
        "[t](//e.x)",
        "[t]: //e.x",
        "[^1]: x",
        "[ ] x",
        "[[t]]",
        "<img src=x onerror=y>",
    ),
    *(
        "https://evil.example",
        "www.evil.example",
        "a@evil.example",
        "<!--",
        "-->",
        "</details>",
        "</pre>",
        "</summary>",
    ),
    *(
        "`",
        "``",
        "```",
        "~~~",
        "**",
        "__",
        "_",
        "*",
        "~",
        "|",
        "\\",
        "\\|",
        "---",
        "===",
        "# ",
        "#",
        "> ",
        "- ",
        "1. ",
        "+ ",
    ),
    *(
        "&#60;",
        "&amp;",
        "<b>",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "$x$",
        ":-:",
        "\n",
        "\n\n",
        "    ",
        "\t",
        " ",
        "a",
        "é",
        "5 %",
    ),
    *("\0", "\x1b[31m", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\x85", "\ud800", "\r", "\u00a0", "\ufffe"),
)
FOREIGN = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=8).map("".join),
    st.text(st.characters(exclude_characters=(END, *STARTS.values())), min_size=1),
)


def section(it: str) -> Section:
    """Everything that a page is made of, with `it` in each place."""
    cells = [[it, code(it), bold(it)], [it, code(it), bold(it)]]
    parts: tuple[Part, ...] = (
        text(it),
        text(f"{code(it)} and {bold(it)}: {it}"),
        Bullets((it, it)),
        table([it, it, it], cells, caption=it, notes=[it, f"{it} "]),
        Code(it, caption=it),
        Details(it, (text(it), Code(it))),
        Compare(Code(it, it), Code(f"{it}x", it)),
    )
    return Section(it, parts, (Section(it, (text(it),)),))


def markdown(it: str) -> list[Token]:
    """The tokens of a page as CommonMark has them, with GitHub's tables; what is escaped stays apart."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).disable("text_join")
    return parser.parse(render.page(Page(it, (text(it),), (section(it),))))


def one_line(it: str) -> str:
    return " ".join(visible(it).split())


def flat(token: Token) -> tuple[list[str], str]:
    """(kinds of the marks, all text) of one line."""
    children = token.children or []
    kinds = [child.type for child in children if not child.type.startswith("text")]
    return kinds, "".join(child.content or " " * child.type.endswith("break") for child in children)


class Html(HTMLParser):
    """Tags in order, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[object] = []
        self.text: list[str] = []
        self.feed(page[page.index("<body>") :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("mark", "wbr") and ("class", "ci") not in attrs:
            self.tags.append((tag, [] if tag in ("td", "th") else attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("mark", "span"):
            self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def html(it: str) -> Html:
    card = Card(use=it, action="keep", title=it, figure=it, interval=it, of=it, shown=True, lines=(it, bold(it)))
    content = Report(title=it, subtitle=it, warning=it, cards=(card,), lead=(), chapters=((section(it), ()),))
    return Html(render.report(content))


@pytest.mark.fault(
    "an answer, a label, a note or a price's source with HTML, Markdown, addresses, fences or control characters",
    "it is text on every page, in Markdown and in HTML; what is not seen is written out, as ⟦U+202E⟧",
)
@given(it=FOREIGN)
@example(it="`<img src=//evil.example/p.png onerror=x>`` ![t](https://evil.example/x.png)")
@example(it="[x]: https://evil.example")
@example(it="a\\|b `c\\|d`")
@settings(max_examples=120, deadline=None)
def test_whatever_is_filled_in_is_text(it: str) -> None:
    shown = one_line(it)
    assume(it.strip())
    plain, hostile = markdown("word"), markdown(it)
    assert [(t.type, t.tag) for t in hostile] == [(t.type, t.tag) for t in plain]
    for ours, theirs in zip(plain, hostile, strict=True):
        if ours.type == "inline":
            kinds, words = flat(ours)
            own_kinds, own_words = flat(theirs)
            assert own_words.replace("\u00a0", " ") == words.replace("word", shown), own_words
            cells_code = [k for k in kinds if k != "code_inline"] if "\\|" in shown else kinds  # such code is text
            assert own_kinds in (kinds, cells_code)
            assert not any(ADDRESS.search(c.content) for c in theirs.children or [] if c.type == "text")
        elif ours.type == "fence":
            assert theirs.content.removesuffix("\n") == visible(it) + "x" * ours.content.endswith("wordx\n")
    own, other = html(it), html("word")
    assert own.tags == other.tags
    assert " ".join("".join(own.text).split()) == " ".join("".join(other.text).replace("word", visible(it)).split())


EVIL = "<img src=//e.x onerror=y>![t](https://e.x/p.png)`|</details>\n# x\0\u202e\x1b[2J\"+x\\'"


def poisoned() -> Run:
    """A run in which every text that comes from elsewhere is hostile."""
    found = facts(Scenario(variants=("awq", "fp8"), lost=4))
    assert found.cost
    plan = but(found.plan, gpu_name=EVIL, labels=dict.fromkeys(found.models, EVIL), predictions={"startup": EVIL})
    seen = {
        model: but(
            ready,
            source=EVIL,
            system_fingerprint=EVIL,
            quantization=but(ready.quantization, method=EVIL, label=EVIL, kernel=EVIL),
            test_completion=Completion(prompt=EVIL, text=EVIL),
            settings=but(ready.settings, dtype=EVIL if model == "awq" else "x"),
        )
        for model, ready in found.ready.items()
    }
    answers = {}
    for variant, details in found.quality.items():
        items = [
            but(
                item,
                id=EVIL,
                prompt=EVIL,
                note=EVIL,
                identical=False,
                baseline=but(item.baseline, output=EVIL),
                variant=but(item.variant, output=f"{EVIL}x", checks=[CheckResult(type="regex", ok=False, detail=EVIL)]),
            )
            for item in details.details
        ]
        answers[variant] = but(details, details=tuple(items), notes=(EVIL,))
    stated = but(found.cost.assumptions, source=EVIL, date=EVIL, currency=EVIL)
    measured = but(found.measurement, telemetry_missing={"power_w_mean": EVIL}, gpu_name=EVIL)
    poison = replace(
        found, plan=plan, ready=seen, quality=answers, measurement=measured, command=("snakemake", EVIL),
        cost=but(found.cost, assumptions=stated),
    )  # fmt: skip
    return replace(poison, decision=decide(poison))


def test_a_run_with_hostile_texts_everywhere_makes_harmless_pages() -> None:
    found, parser = poisoned(), MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for name, page in PAGES.items():
        written = render.page(page(found))
        assert not set(written) & set("\0\u202e\x1b"), name
        tokens = parser.parse(written)
        blocks = {t.content.split("<summary>")[0].strip() for t in tokens if t.type == "html_block"}
        assert blocks <= {"<details>", "</details>"}
        inline = [child for token in tokens for child in token.children or []]
        assert not [child for child in inline if child.type in ("html_inline", "image")], name
        assert {child.attrGet("href") for child in inline if child.type == "link_open"} <= {f"{p}.md" for p in PAGES}
    drawn = {name: plots.svg_inline(chart) for name, chart in plots.draw_all(found).items()}
    html = render.report(report(found, drawn))
    assert not set(html) & set("\0\u202e\x1b")
    assert not re.search(r"<(img|script|iframe|image)\b", html)
    assert not re.search(r"""\b(src|href)\s*=\s*["'](?!#)""", re.sub(r"<pre>.*?</pre>", "", html, flags=re.DOTALL))


def test_a_forged_mark_opens_nothing_but_a_bold_word_or_code() -> None:
    for start in STARTS.values():
        for it in (f"{start}https://evil.example{END}", f"{start}<b>", f"{END}x"):
            shown = render.page(Page("t", (text(it),), ()))
            tokens = MarkdownIt("commonmark").parse(shown)
            kinds = {child.type for token in tokens for child in token.children or []}
            assert kinds <= {"text", "code_inline", "strong_open", "strong_close"}


UNSEEN = [
    *("\0", "\x07", "\x1b", "\x7f", "\x9b", "\r", "\u00ad", "\u061c", "\u200b", "\u200d", "\u200e", "\u202a", "\u202e"),
    *("\u2028", "\u2066", "\u2069", "\ufeff", "\ud800", "\ufdd0", "\uffff", "\u3164", "\U000e0041"),
]


@pytest.mark.parametrize("character", UNSEEN)
def test_what_is_not_seen_is_written_out(character: str) -> None:
    assert visible(f"a{character}b") == f"a⟦U+{ord(character):04X}⟧b"


@pytest.mark.parametrize(
    "honest", ["Grüße, 你好\n\tשלום", "می\u200cخواهم", "👩\u200d💻", "क्\u200dष", "e\u0301 a\u00a0b ⟦1⟧"]
)
def test_honest_text_of_any_script_stays_as_it_is(honest: str) -> None:
    assert visible(honest) == honest
    assert visible("a\r\nb") == "a\nb"


def test_no_cell_is_longer_than_a_page_can_bear() -> None:
    assert len(table(["a"], [["x" * 10**6]]).rows[0][0]) < MOST


@pytest.mark.fault(
    "a server's words, quoted in an error, steer the terminal (escape sequences, direction, NUL)",
    "they are written out, as ⟦U+001B⟧",
)
def test_what_an_error_quotes_does_not_steer_the_terminal() -> None:
    error = QuantbenchError("the server said \x1b[2J\x00\u202eab", remedy="read\n  it")
    assert str(error) == "the server said ⟦U+001B⟧[2J⟦U+0000⟧⟦U+202E⟧ab\n  remedy: read\n  it"
