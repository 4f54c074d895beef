"""The pages as files: a change of what a page says shows as a diff of tests/goldens/{scenario}/{page}.

`pytest tests/test_goldens.py --update-goldens` writes them anew; read the diff before it is committed.
"""

from __future__ import annotations

import csv
import html
import re
import shutil
from pathlib import Path

import fleets
import page_facts
import pytest
import two_run_facts
from quantbench.cli.compare_output import printed
from quantbench.judge import guards
from quantbench.records.run import Run
from quantbench.report import pages, plots, render, two_runs
from quantbench.report.junit import junit
from quantbench.report.say import Speech, catalogue
from report_fixture import KEPT, Scenario, facts, kept_facts

GOLDENS = Path(__file__).parent / "goldens"
FACTS = GOLDENS / "facts.md"
ELSEWHERE = {
    "answers.unshown",
    "decision.worse_apart",
    "fleet.action.use",
}
"""Sentences that only unit tests have a case for: of quality/, of long answers, of decision.md, of a fleet's page."""
SCENARIOS = {
    "win": Scenario(variants=("fp8",), lost=0),
    "awq": Scenario(),
    "loss": Scenario(variants=("slow",)),
    "noisy": Scenario(noise=0.1),
    "three_variants": Scenario(variants=("awq", "gptq", "fp8")),
    "few_blocks": Scenario(blocks=2),
    "invalid_blocks": Scenario(invalid=True, failures=True),
    "all_invalid": Scenario(invalid=True, workloads=("chat",), blocks=4, lost=4),
    "no_control": Scenario(aa=False),
    "control_fails": Scenario(aa_speed=1.1),
    "no_price_no_quality": Scenario(price=False, quality=False),
    "lost_answers": Scenario(variants=("fp8",), lost=4),
    "cpu": Scenario(variants=("int8",), cpu=True),
    "short_blocks": Scenario(p95=False),
    "not_interleaved": Scenario(interleaved=False, predictions=False),
    "dummy_weights": Scenario(dummy=True, quality=False),
    "baseline_alone": Scenario(variants=(), aa=False),
    "two_lanes": Scenario(two_lanes=True),
    "drift": Scenario(drift=0.1),
    "refused_comparison": Scenario(mismatch=True),
    "two_cards": Scenario(variants=("fp8",), lost=0, two_cards=True),
    "baseline_does_not_fit": Scenario(variants=("awq",), lost=0, unfit=True),
    "same_memory": Scenario(lost=0, iso=True),
    "two_starts": Scenario(starts=2, start_effect=0.05),
    "suite": Scenario(variants=("int8",), lost=0, suite="sound"),
    "suite_damaged": Scenario(variants=("int8",), suite="damaged"),
    "batch_only": Scenario(workloads=("batch_summarize",)),
}
KEPT_RUN = "h100"
FLEET = "fleet"
COMPARED = two_run_facts.compared()
"""Two runs each, for `quantbench compare`."""
REPORTS = ("three_variants", KEPT_RUN)


def facts_of(scenario: str) -> Run:
    return kept_facts() if scenario == KEPT_RUN else facts(SCENARIOS[scenario])


def rendered(scenario: str) -> dict[str, str]:
    """{file name: text} of a scenario's pages."""
    if scenario == FLEET:
        return {
            n.replace(".html", ".html.txt"): text_of(t) if n.endswith("html") else t for n, t in fleets.pages().items()
        }
    if found := COMPARED.get(scenario):
        shown = two_runs.page(found)
        html_text = text_of(render.report(two_runs.report(found)))
        more = (
            {"compare.html.txt": html_text, "compare.txt": f"{printed(shown)}\n"}
            if scenario == "compare_starts"
            else {}
        )
        return {"compare.md": render.page(shown), "junit.xml": junit(found), **more}
    run = facts_of(scenario)
    made = {f"{name}.md": render.page(page(run)) for name, page in pages.PAGES.items()}
    if scenario in REPORTS:
        drawn = dict.fromkeys(plots.draw_all(run), "<svg></svg>")
        made["report.html.txt"] = text_of(render.report(pages.report(run, drawn)))
    return made


def text_of(page: str) -> str:
    """What an HTML page says: a line per block or table row, no tags, a chart as its place only."""
    body = re.sub(r"<(style|head)\b.*?</\1>", "", page, flags=re.DOTALL)
    body = re.sub(r"<svg\b.*?</svg>", "\n[chart]\n", body, flags=re.DOTALL)
    body = re.sub(r"</(t[dh]|a)>\s*<(t[dh]|a)\b[^>]*>", " | ", body)
    body = re.sub(r"</?(?!(?:a|b|br|code|em|i|small|span|strong|t[dh]|wbr)\b)[a-z][^>]*>", "\n", body)
    body = re.sub(r"<(br|span)\b[^>]*>", " ", body)
    lines = (" ".join(html.unescape(re.sub(r"<[^>]+>", "", line)).split()) for line in body.split("\n"))
    return "\n".join(line for line in lines if line) + "\n"


@pytest.mark.parametrize("scenario", [*SCENARIOS, KEPT_RUN, FLEET, *COMPARED])
def test_pages_say_what_they_said(scenario: str, request: pytest.FixtureRequest) -> None:
    folder, made = GOLDENS / scenario, rendered(scenario)
    if request.config.getoption("--update-goldens"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in made.items():
            (folder / name).write_text(text, encoding="utf-8")
    assert {path.name for path in folder.glob("*")} == set(made), "--update-goldens writes and removes files"
    for name, text in made.items():
        assert text == (folder / name).read_text(encoding="utf-8"), f"{scenario}/{name}: see --update-goldens"


BROKEN = re.compile(r"\b(nan|none|null|inf|true|false)\b|\{|\}|  +\S|\(\)| \.|,,|\.\.(?!\.)", re.IGNORECASE)
NOUNS = "block|prompt|comparison|cell|case|day|pair|wake-up|request"
PAGES = sorted(path for path in GOLDENS.glob("*/*.md"))


def _prose(path: Path) -> str:
    """A page without verbatim text, code and table rules."""
    page = re.sub(r"^(`{3,}).*?\n\1$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"`[^`]*`", "code", page)
    return re.sub(r"\|[-: |]+\|\n", "", page).replace(guards.meanings()["nan_logits"], "title")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pages_print_no_broken_value_and_tables_are_rectangular(path: Path) -> None:
    page = _prose(path)
    for line in page.splitlines():
        hit = BROKEN.search(line.strip().replace("Confidence: none", "Confidence: no"))
        assert hit is None, f"{hit[0] if hit else ''!r} in {line!r}"
    assert not re.search(rf"(?<![\d.,])1 ({NOUNS})s\b", page)
    assert not re.search(rf"(?<![\d.,])(?!1 )\d+ ({NOUNS})\b", page)
    for table in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_the_demos_pages_stay_short() -> None:
    """Words of the pages of a run on the CPU, as `wc -w` counts them."""
    words = {name: len((GOLDENS / "cpu" / name).read_text(encoding="utf-8").split()) for name in LENGTHS}
    assert {name: count for name, count in words.items() if count > LENGTHS[name]} == {}


LENGTHS = {"decision.md": 400, "notes.md": 1720, "cost.md": 450, "best_practices.md": 240}
"""Below what such a page may have (450, 2 000, 600, 300), as another run has other sentences."""


def test_every_golden_has_its_scenario() -> None:
    assert {path.name for path in GOLDENS.iterdir()} == {*SCENARIOS, KEPT_RUN, FLEET, *COMPARED, FACTS.name}


def test_what_a_single_fact_changes(request: pytest.FixtureRequest) -> None:
    written = page_facts.differences()
    if request.config.getoption("--update-goldens"):
        FACTS.write_text(written, encoding="utf-8")
    assert written == FACTS.read_text(encoding="utf-8"), "see --update-goldens"


def test_every_sentence_is_said() -> None:
    """By a scenario or by a fact."""
    for scenario in [*SCENARIOS, KEPT_RUN, FLEET, *COMPARED]:
        rendered(scenario)
    page_facts.differences()
    ids = {(id_, form) for id_, words in catalogue().items() for form in (words if isinstance(words, dict) else [""])}
    unsaid = {".".join(filter(None, pair)) for pair in ids} - Speech.said
    assert {id_ for id_ in unsaid if not id_.startswith(("code.", "question."))} <= ELSEWHERE


def test_kept_results_are_judged_anew_with_the_same_figures() -> None:
    keys = ("workload", "variant", "concurrency", "max_tokens", "metric")
    # The margin followed the A/A control then, and each metric had a test in one family of all.
    always, of_a_test = ("baseline_value", "variant_value", "ratio", "ci_low", "ci_high"), ("p_value",)
    with (KEPT / "comparison" / "chat.csv").open(newline="") as file:
        published = {tuple(row[key] for key in keys): row for row in csv.DictReader(file)}
    anew = {tuple(str(getattr(row, key)) for key in keys): row for row in kept_facts().verdict.rows}
    assert published.keys() == anew.keys()
    for key, row in anew.items():
        tested = row.code != "described"
        assert not tested or row.code == published[key]["code"]
        for name in (*always, *(of_a_test if tested else ())):
            known = pytest.approx(float(published[key][name])) if published[key][name] else None
            assert getattr(row, name) == known, (key, name)
