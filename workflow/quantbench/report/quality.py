"""The section "Quality Sanity Check", and answers.md: every prompt, and every answer that changed, verbatim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from quantbench.quality.score import MIN_PROMPTS, STRICT_PROMPTS
from quantbench.records.finding import Finding, finding
from quantbench.records.quality import Item, QualityDetails, Side, UseId
from quantbench.records.run import Run
from quantbench.report.document import Code, Compare, Details, Page, Part, Section, Table, bullets, table, text
from quantbench.report.quality_words import LABELS
from quantbench.report.say import Speech
from quantbench.wording import integer

OTHER_LENGTH: Final = 0.05
"""Share by which answers are longer or shorter before that is worth a sentence."""


def section(run: Run, say: Speech) -> Section:
    """The verdict on each variant, the uses for which it is enough, the paragraph on risk."""
    risk = text(say("quality_page.risk", strict=STRICT_PROMPTS))
    pairs = _pairs(run)
    if not pairs:
        return Section("Quality Sanity Check", (text(say("quality_page.not_measured")), risk))
    first = next(iter(pairs.values()))
    parts = (
        text(say("quality_page.how", prompts=first.prompts), say.all(_floors(run)), say.all(_annotated(run))),
        *bullets([say.all(_verdict(variant, details)) for variant, details in pairs.items()]),
        use_table(run, say),
        risk,
    )
    return Section("Quality Sanity Check", parts)


def _pairs(run: Run) -> dict[str, QualityDetails]:
    """{variant: its answers against the baseline's}, in the order of the variants."""
    return {variant: run.quality[variant] for variant in run.variants if variant in run.quality}


def _floors(run: Run) -> Iterator[Finding]:
    """The baseline against itself; once where every variant was held against the same repeats."""
    for floor in {details.floor: None for details in run.quality.values()}:
        if not floor.measured:
            yield finding("quality_page.floor_unknown", baseline=run.baseline)
            continue
        counts = {"same": floor.identical, "answers": floor.answers}
        if floor.lost:
            yield finding("quality_page.floor_lost", baseline=run.baseline, **counts, prompts=floor.lost)
        else:
            yield finding("quality_page.floor", baseline=run.baseline, **counts)


def _annotated(run: Run) -> Iterator[Finding]:
    noted = max(sum(bool(item.note) for item in details.details) for details in run.quality.values())
    if noted or any(details.notes for details in run.quality.values()):
        yield finding("quality_page.annotated", noted=noted)
    else:
        yield finding("quality_page.not_annotated")


def _verdict(variant: str, details: QualityDetails) -> Iterator[Finding]:
    """The word and why, what the prompts can exclude, what was lost, and lengths where they matter."""
    judged = details.verdict
    if judged.because:
        yield finding("quality_page.verdict_because", variant=variant, word=judged.word, because=judged.because)
    else:
        yield finding("quality_page.verdict", variant=variant, word=judged.word)
    if judged.loss_rate_upper_95 is None:
        yield finding("quality.no_bound")
    else:
        names = finding("quality_page.names", prompts=judged.lost) if judged.lost else ""
        counts = {"lost": len(judged.lost), "n": judged.n, "bound": judged.loss_rate_upper_95}
        yield finding("quality_page.bound", **counts, names=names)
    fewer = [
        finding("quality_page.fewer_of_class", kind=count.kind, passed=count.variant, baseline=count.baseline)
        for count in details.classes
        if count.variant < count.baseline
    ]
    if fewer:
        yield finding("quality_page.fewer", classes=fewer)
    yield from _lengths(details)


def _lengths(details: QualityDetails) -> Iterator[Finding]:
    ratio, cut = details.length.mean_ratio, details.length.cut_at_max_tokens
    if ratio is not None and abs(ratio - 1) >= OTHER_LENGTH:
        longer = ratio > 1
        yield finding("quality_page.longer" if longer else "quality_page.shorter", by=abs(ratio - 1))
    if cut.variant > cut.baseline:
        yield finding("quality_page.cut", variant=cut.variant, baseline=cut.baseline)


def use_table(run: Run, say: Speech) -> Table:
    """A row per use that any variant is judged on, a column per variant; uses that are shown for none in a note."""
    pairs = _pairs(run)
    rows, open_ = [], []
    for use in dict.fromkeys(use.id for details in pairs.values() for use in details.uses):
        marks = [_status(details, use) for details in pairs.values()]
        if set(marks) == {"not shown"}:
            open_.append(say(LABELS[use]))
        else:
            rows.append([say(LABELS[use]), *marks])
    few = open_ or any("not shown" in row for row in rows)
    notes = [say("quality_page.not_shown", least=MIN_PROMPTS, strict=STRICT_PROMPTS)] if few else []
    notes += [say("quality_page.not_shown_at_all", uses=open_)] if open_ else []
    columns = ["Good enough for", *map(say.label, pairs)]
    return table(columns, rows, notes=[" ".join(notes)], words=range(len(columns)))


def _status(details: QualityDetails, id_: UseId) -> str:
    use = details.use(id_)
    if use is None:
        return ""
    return f"**{use.status}**" if use.status == "not acceptable" else use.status


def class_table(run: Run, say: Speech, variant: str) -> Table:
    """Prompts that each model passes, by class."""
    rows = [
        [count.kind.replace("_", " "), *map(integer, (count.prompts, count.baseline, count.variant))]
        for count in run.quality[variant].classes
    ]
    columns = ["class", "prompts", say.label(run.baseline), say.label(variant)]
    return table(columns, rows, caption="Prompts passed, by class")


def answers_page(run: Run, say: Speech) -> Page:
    """answers.md: per variant its classes, its prompts and what changed, verbatim; the test completions."""
    lead = say("answers.lead" if run.quality else "answers.none")
    return Page("Answers, verbatim", (text(lead),), answers_sections(run, say))


def answers_sections(run: Run, say: Speech) -> tuple[Section, ...]:
    """The sections of answers.md."""
    pairs = (Section(say.label(variant), _pair(run, say, variant)) for variant in _pairs(run))
    completions = [
        Code(f"{completion.prompt}{completion.text}", caption=say.label(model))
        for model in run.models
        if model in run.ready and (completion := run.ready[model].test_completion).text
    ]
    tests = (Section("Test completions", (text(say("answers.test")), *completions)),) if completions else ()
    return (*pairs, *tests)


def _pair(run: Run, say: Speech, variant: str) -> tuple[Part, ...]:
    details = run.quality[variant]
    worse = [item for item in details.details if item.change == "worse"]
    rest = [item for item in details.details if item.change != "worse" and not item.identical]
    opened = [text(say("answers.worse", n=len(worse)))] if worse else [text(say("answers.none_worse"))]
    folded: tuple[Part, ...] = ()
    if rest:
        folded = (Details(say("answers.rest", n=len(rest)), tuple(_verbatim(run, say, variant, rest))),)
    return (
        *bullets([say("answers.note", note=note) for note in details.notes]),
        class_table(run, say, variant),
        prompt_table(run, say, variant),
        *opened,
        *_verbatim(run, say, variant, worse),
        *folded,
    )


def prompt_table(run: Run, say: Speech, variant: str) -> Table:
    """A row per prompt: who passes it, where the answers part, what a person wrote."""
    rows = [
        [
            f"`{item.id}`",
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
    return table(columns, rows, caption="Prompts", notes=[say("answers.same")], words=(0, 1, 2, 3, 4, 6))


def _passed(say: Speech, side: Side) -> str:
    if side.passed:
        return "pass"
    return say("answers.failed", checks=[check.type.replace("_", " ") for check in side.failed])


def _verbatim(run: Run, say: Speech, variant: str, items: Iterable[Item]) -> Iterator[Part]:
    for item in items:
        why = "; ".join(check.detail or check.type for check in item.variant.failed)
        yield text(
            say("answers.item", prompt=item.id, kind=item.kind, change=item.change, why=f": {why}" if why else "")
        )
        yield Code(item.prompt, caption="Prompt")
        yield Compare(
            Code(item.baseline.output, caption=say.label(run.baseline)),
            Code(item.variant.output, caption=say.label(variant)),
        )
