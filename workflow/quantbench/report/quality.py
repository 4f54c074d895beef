"""The section "Quality Sanity Check", answers.md with all that changed, the words of quality_details.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from quantbench.quality.score import ALPHA, MIN_PROMPTS, NET_LOSS, STRICT_PROMPTS
from quantbench.records.finding import Finding, finding
from quantbench.records.quality import Item, QualityDetails, QualityVerdict, Side, UseId
from quantbench.records.run import Run
from quantbench.report.differences import Excerpt, excerpt, excerpts
from quantbench.report.document import (
    Code,
    Compare,
    Details,
    Page,
    Part,
    Section,
    Table,
    bullets,
    table,
    text,
    without_empty_columns,
)
from quantbench.report.marks import bold, code
from quantbench.report.say import Speech
from quantbench.wording import clipped, integer

OTHER_LENGTH: Final = 0.05
"""Share by which answers are longer or shorter before that is worth a sentence."""
MOST_VERBATIM: Final = 40
"""Pairs of answers that are shown, of one variant; those that got worse come first."""
MOST_OF_A_CHECK: Final = 300
"""Characters of what a check says."""
THINKING: Final = {True: ("on", "not_seen"), False: ("against", "off"), None: ("undeclared", "")}
"""What is said of thinking, by what was declared: where answers show thoughts, and where none does."""
RULES: Final = (
    finding("quality.rule_degraded", alpha=ALPHA, net=NET_LOSS),
    finding("quality.rule_none_seen", n=MIN_PROMPTS),
    finding("quality.rule_insufficient"),
    finding("quality.rule_use", n=MIN_PROMPTS),
    finding("quality.rule_chat", n=STRICT_PROMPTS),
)


def with_words(details: QualityDetails, say: Speech) -> QualityDetails:
    """The same with its sentences: reasons and bound of the verdict, label and reason of each use, the rules."""
    judged = details.verdict
    uses = (replace(use, use=say("quality.use", form=use.id), why=say.all(use.because, "; ")) for use in details.uses)
    return replace(
        details,
        verdict=replace(judged, reasons=tuple(map(say, judged.because)), sentence=say(bound(judged))),
        uses=tuple(uses),
        rules=tuple(map(say, RULES)),
    )


def bound(judged: QualityVerdict) -> Finding:
    """What the number of prompts can and cannot exclude."""
    if judged.loss_rate_upper_95 is None:
        return finding("quality.no_bound")
    return finding("quality.bound", n=len(judged.lost), total=judged.n, bound=judged.loss_rate_upper_95)


def section(run: Run, say: Speech) -> Section:
    """The verdict on each variant, the uses for which it is enough, the paragraph on risk."""
    risk = text(say("quality_page.risk", strict=STRICT_PROMPTS))
    pairs = _pairs(run)
    if not pairs:
        return Section("Quality Sanity Check", (text(say("quality_page.not_measured")), risk))
    noted = max(sum(bool(item.note) for item in details.details) for details in pairs.values())
    annotated = noted or any(details.notes for details in pairs.values())
    parts = (
        text(
            say("quality_page.how", prompts=next(iter(pairs.values())).prompts),
            *_asked(pairs, say),
            *(say("quality_page.not_run", form=form, n=n) for n, form in _not_run(run)),
            *_floors(run, say),
            say("quality_page.annotated", noted=noted) if annotated else say("quality_page.not_annotated"),
        ),
        *bullets([" ".join(_verdict(say, variant, details)) for variant, details in pairs.items()]),
        use_table(run, say),
        risk,
    )
    return Section("Quality Sanity Check", parts)


def _pairs(run: Run) -> dict[str, QualityDetails]:
    """{variant: its answers against the baseline's}, in the order of the variants."""
    return {variant: run.quality[variant] for variant in run.variants if variant in run.quality}


def _floors(run: Run, say: Speech) -> Iterator[str]:
    """The baseline against itself; once where every variant was held against the same repeats."""
    for floor in {details.floor: None for details in run.quality.values()}:
        form = "unknown" if not floor.measured else "lost" if floor.lost else "none_lost"
        counts = {"same": floor.identical, "answers": floor.answers, "prompts": floor.lost}
        yield say("quality_page.floor", form=form, baseline=run.baseline, **counts)


def _asked(pairs: Mapping[str, QualityDetails], say: Speech) -> Iterator[str]:
    """How many prompts at a time, and whether the models were to think, where there is anything to say of it."""
    at_once = max((details.concurrency or 1 for details in pairs.values()), default=1)
    if at_once > 1:
        yield say("quality_page.at_once", n=at_once)
    told = {variant: details.thinking for variant, details in pairs.items() if details.thinking}
    for declared in dict.fromkeys(thinking.declared for thinking in told.values()):
        alike = [thinking for thinking in told.values() if thinking.declared is declared]
        # The baseline's answers are the same in each pair.
        thoughts = max(one.thoughts.baseline for one in alike) + sum(one.thoughts.variant for one in alike)
        seen, unseen = THINKING[declared]
        if form := seen if thoughts else unseen:
            yield say("quality_page.thinking", form=form, n=thoughts)
    for variant, thinking in told.items():
        if thinking.cut.baseline or thinking.cut.variant:
            counts = {"own": thinking.cut.variant, "base": thinking.cut.baseline}
            yield say("quality_page.cut_thoughts", variant=variant, **counts)


def _not_run(run: Run) -> dict[tuple[int, str], None]:
    """How many prompts neither pass nor fail, as code was not run, and why; each once."""
    return {(len(details.not_run), details.code): None for details in run.quality.values() if details.not_run}


def _verdict(say: Speech, variant: str, details: QualityDetails) -> Iterator[str]:
    """The word and why, what the prompts can exclude, what was lost, and lengths where they matter."""
    judged, ratio, cut = details.verdict, details.length.mean_ratio, details.length.cut_at_max_tokens
    yield say("quality_page.verdict", variant=variant, word=judged.word, because=judged.because)
    if judged.loss_rate_upper_95 is None:
        yield say("quality.no_bound")
    else:
        counts = {"lost": len(judged.lost), "n": judged.n, "bound": judged.loss_rate_upper_95}
        yield say("quality_page.bound", **counts, prompts=judged.lost)
    fewer = [
        say("quality_page.fewer_of_class", kind=count.kind, passed=count.variant, baseline=count.baseline)
        for count in details.classes
        if count.variant < count.baseline
    ]
    if fewer:
        yield say("quality_page.fewer", classes=fewer)
    if ratio is not None and abs(ratio - 1) >= OTHER_LENGTH:
        yield say("quality_page.length", form="longer" if ratio > 1 else "shorter", by=abs(ratio - 1))
    if cut.variant > cut.baseline:
        yield say("quality_page.cut", variant=cut.variant, baseline=cut.baseline)


def use_table(run: Run, say: Speech) -> Table:
    """A row per use that any variant is judged on, a column per variant; uses that are shown for none in a note."""
    pairs = _pairs(run)
    rows, open_ = [], []
    for use in dict.fromkeys(use.id for details in pairs.values() for use in details.uses):
        marks = [_status(details, use) for details in pairs.values()]
        if set(marks) == {"not shown"}:
            open_.append(say("quality.use", form=use))
        else:
            rows.append([say("quality.use", form=use), *marks])
    few = open_ or any("not shown" in row for row in rows)
    notes = (
        [say("quality_page.not_acceptable")] if any("not acceptable" in cell for row in rows for cell in row) else []
    )
    notes += [say("quality_page.not_shown", least=MIN_PROMPTS, strict=STRICT_PROMPTS)] if few else []
    notes += [say("quality_page.not_shown_at_all", uses=open_)] if open_ else []
    return table(["Good enough for", *map(say.label, pairs)], rows, notes=[" ".join(notes)])


def _status(details: QualityDetails, id_: UseId) -> str:
    use = details.use(id_)
    if use is None:
        return ""
    return bold(use.status) if use.status == "not acceptable" else use.status


def answers_page(run: Run, say: Speech) -> Page:
    """answers.md: per variant its classes, its prompts and what changed, verbatim; the test completions."""
    lead = say("answers.lead") if run.quality else say("answers.none")
    pairs = (Section(say.label(variant), _pair(run, say, variant)) for variant in _pairs(run))
    completions = [
        _part(say, excerpt(f"{completion.prompt}{completion.text}"), say.label(model))
        for model in run.models
        if model in run.ready and (completion := run.ready[model].test_completion).text
    ]
    tests = (Section("Test completions", (text(say("answers.test")), *completions)),) if completions else ()
    return Page("Answers, verbatim", (text(lead),), (*pairs, *tests))


def _pair(run: Run, say: Speech, variant: str) -> tuple[Part, ...]:
    details = run.quality[variant]
    worse = [item for item in details.details if item.change == "worse"]
    rest = [item for item in details.details if item.change != "worse" and not item.identical]
    shown_worse, shown_rest = worse[:MOST_VERBATIM], rest[: max(0, MOST_VERBATIM - len(worse))]
    unshown = len(worse) + len(rest) - len(shown_worse) - len(shown_rest)
    verbatim = tuple(_verbatim(run, say, variant, shown_rest))
    return (
        *bullets([say("answers.note", note=note) for note in details.notes]),
        prompt_table(run, say, variant),
        text(say("answers.worse", n=len(worse)) if worse else say("answers.none_worse")),
        *_verbatim(run, say, variant, shown_worse),
        *([Details(say("answers.rest", n=len(rest)), verbatim)] if verbatim else []),
        *([text(say("answers.unshown", n=unshown))] if unshown else []),
    )


def prompt_table(run: Run, say: Speech, variant: str) -> Table:
    """A row per prompt: who passes it, where the answers part, what a person wrote."""
    rows = [
        [
            code(item.id),
            item.kind.replace("_", " "),
            _passed(say, item.baseline),
            _passed(say, item.variant),
            item.change,
            integer(item.first_divergence_token),
            item.note or "",
        ]
        for item in run.quality[variant].details
    ]
    columns = ["prompt", "class", say.label(run.baseline), say.label(variant), "change", "parts at token", "note"]
    return without_empty_columns(table(columns, rows, caption="Prompts", notes=[say("answers.same")]))


def _passed(say: Speech, side: Side) -> str:
    if side.passed:
        return "pass"
    if not side.failed:
        return say("answers.not_run")
    return say("answers.failed", checks=[check.type.replace("_", " ") for check in side.failed])


def _verbatim(run: Run, say: Speech, variant: str, items: Iterable[Item]) -> Iterator[Part]:
    for item in items:
        why = "; ".join(clipped(check.detail or check.type, MOST_OF_A_CHECK) for check in item.variant.failed)
        by_chance = item.change == "worse" and item.id in run.quality[variant].floor.lost
        floor = say("answers.floor") if by_chance else ""
        yield text(say("answers.item", prompt=item.id, kind=item.kind, change=item.change, why=why, floor=floor))
        yield _part(say, excerpt(item.prompt), "Prompt")
        base, own = excerpts(item.baseline.output, item.variant.output)
        yield Compare(_part(say, base, say.label(run.baseline)), _part(say, own, say.label(variant)))


def _part(say: Speech, shown: Excerpt, name: str) -> Code:
    """A text, and of a long one which part it is."""
    whole = len(shown.text) == shown.of
    counts = {} if whole else {"first": shown.first, "last": shown.last, "of": shown.of}
    return Code(shown.text, caption=say("answers.part", name=name, **counts))
