"""The section "Quality Sanity Check", and answers.md with all that changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from quantbench.quality.gate import USES
from quantbench.records.quality import Item, QualityDetails, Side
from quantbench.records.run import Run
from quantbench.records.suite import Estimate, GateVerdict, Likelihood
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
from quantbench.wording import clipped, integer, number, percent

OTHER_LENGTH: Final = 0.05
"""Share by which answers are longer or shorter before that is worth a sentence."""
MOST_VERBATIM: Final = 40
"""Pairs of answers that are shown, of one variant; those that got worse come first."""
MOST_OF_A_CHECK: Final = 300
"""Characters of what a check says."""
FEW: Final = ("gate.few", "gate.no_items")
"""What is missing where a use has too few items to be worth a row."""
THINKING: Final = {True: ("on", "not_seen"), False: ("against", "off"), None: ("undeclared", "")}
"""What is said of thinking, by what was declared: where answers show thoughts, and where none does."""


def section(run: Run, say: Speech) -> Section:
    """What was lost with each variant, the uses for which it is enough, the paragraph on risk."""
    risk = text(say("quality_page.risk"))
    gates = _gates(run)
    if not gates:
        return Section("Quality Sanity Check", (text(say("quality_page.not_measured")), risk))
    noted = max((sum(bool(item.note) for item in details.details) for details in run.quality.values()), default=0)
    annotated = noted or any(details.notes for details in run.quality.values())
    parts = (
        text(
            say("quality_page.how", items=max(every.n for verdicts in gates.values() for every in verdicts)),
            *_asked(run.quality, say),
            *(say("quality_page.not_run", form=form, n=n) for n, form in _not_run(run)),
            *_floors(run, say),
            say("quality_page.annotated", noted=noted) if annotated else say("quality_page.not_annotated"),
        ),
        *bullets([" ".join(_pair_lines(run, say, variant)) for variant in gates]),
        *use_table(run, say),
        risk,
    )
    return Section("Quality Sanity Check", parts)


def _gates(run: Run) -> dict[str, tuple[GateVerdict, ...]]:
    """{variant: the gate's words}, of variants whose answers were compared."""
    return dict(run.decision.gate) if run.decision else {}


def _pairs(run: Run) -> dict[str, QualityDetails]:
    """{variant: its answers against the baseline's}, in the order of the variants."""
    return {variant: run.quality[variant] for variant in run.variants if variant in run.quality}


def _floors(run: Run, say: Speech) -> Iterator[str]:
    """The baseline against itself; once where every variant was held against the same repeats."""
    for floor in {details.floor: None for details in run.quality.values()}:
        counts = {"same": floor.identical, "answers": floor.answers, "prompts": floor.lost}
        yield say("quality_page.floor", form="known" if floor.measured else "unknown", baseline=run.baseline, **counts)


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


def _pair_lines(run: Run, say: Speech, variant: str) -> Iterator[str]:
    """What was lost of all items, how the likelihoods moved, lengths where they matter, uses with too few items."""
    every = run.gate(variant, "batch")
    if every:
        interval = {"loss": every.loss, "low": every.low, "high": every.high, "seen": every.smallest_loss}
        counts = {"lost": len(every.lost), "gained": len(every.gained), "n": every.n}
        yield say("quality_page.pair", variant=variant, **counts, **interval, prompts=every.lost)
    for score in run.suites.get(variant, ()):
        if score.likelihood:
            yield likelihood(say, score.likelihood, score.likelihood_floor)
        if judged := score.preference:
            yield say(
                "quality_page.judge",
                judge=judged.judge,
                pairs=judged.pairs,
                variant=variant,
                baseline=run.baseline,
                own=judged.variant_wins,
                base=judged.baseline_wins,
                ties=judged.ties,
                failed=judged.failed,
                false=judged.false_preference,
            )
    few = [
        say("quality_page.few_of", use=say("gate.use", form=verdict.use), n=verdict.n, needed=verdict.needed)
        for verdict in _gates(run)[variant]
        if _too_few(verdict)
    ]
    if few:
        yield say("quality_page.few", uses=few)
    if variant in run.quality:
        details = run.quality[variant]
        lines = list(_prompt_lines(say, details))
        if lines and every and every.n > len(details.details):  # further suites count above, and not here
            yield say("quality_page.prompts_alone", n=len(details.details))
        yield from lines


def likelihood(say: Speech, measured: Likelihood, floor: Likelihood | None) -> str:
    """How far the next-token distribution moved."""

    def shown(id_: str, estimate: Estimate) -> str:
        return say(id_, value=estimate.value, low=estimate.low, high=estimate.high)

    return say(
        "quality_page.likelihood",
        positions=measured.positions,
        prompts=measured.prompts,
        kl=shown("quality_page.estimate", measured.kl),
        floor=number(floor.kl.value) if floor else None,
        top1=shown("quality_page.share", measured.top1),
        ppl=shown("quality_page.estimate", measured.ppl_ratio),
    )


def _prompt_lines(say: Speech, details: QualityDetails) -> Iterator[str]:
    """Classes of prompts of which fewer are passed, and lengths where they matter."""
    ratio, cut = details.length.mean_ratio, details.length.cut_at_max_tokens
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


def _too_few(verdict: GateVerdict) -> bool:
    """Whether there is nothing to say of a use but that it has too few items."""
    return verdict.status == "insufficient evidence" and {why.id for why in verdict.because} <= {*FEW}


def use_table(run: Run, say: Speech) -> tuple[Part, ...]:
    """A row per use and variant with enough items for a word: what it is, what it rests on, what would decide."""
    gates = _gates(run)
    shown = [(variant, verdict) for variant, words in gates.items() for verdict in words if not _too_few(verdict)]
    shown.sort(key=lambda pair: [use.use for use in USES].index(pair[1].use))
    rows = [_row(say, variant, verdict, several=len(gates) > 1) for variant, verdict in shown]
    notes = [say("quality_page.intervals")] if rows else []
    if any(verdict.needed for words in gates.values() for verdict in words):
        notes.append(say("quality_page.ask_more"))
    if not rows:
        return (text(*notes),)
    columns = ["Good enough for", *(["model"] if len(gates) > 1 else [])]
    columns += ["word", "items", "lost, gained", "loss", "sees", "why"]
    return (without_empty_columns(table(columns, rows, notes=[" ".join(notes)])),)


def _row(say: Speech, variant: str, verdict: GateVerdict, *, several: bool) -> list[str]:
    status, why = verdict.status, [] if verdict.status == "fine" else [say.all(verdict.because, "; ")]
    if verdict.needed:
        why.append(say("quality_page.needed", n=verdict.needed))
    interval = {"loss": verdict.loss, "low": verdict.low, "high": verdict.high}
    return [
        say("gate.use", form=verdict.use),
        *([say.label(variant)] if several else []),
        bold(status) if status == "not acceptable" else status,
        integer(verdict.n),
        f"{len(verdict.lost)}, {len(verdict.gained)}",
        say("quality_page.column", **interval) if verdict.loss is not None else "",
        percent(verdict.smallest_loss) if verdict.smallest_loss is not None else "",
        "; ".join(why),
    ]


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
