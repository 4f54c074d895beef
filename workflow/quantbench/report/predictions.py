"""Predictions written before the run, scored against what was measured. Pure.

A question that the data answer is scored right, wrong or open; the others stand beside the evidence for a person.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from quantbench.report.document import Section, table, text
from quantbench.report.facts import Facts, Json
from quantbench.report.impact import helps
from quantbench.report.narrative_quality import lost_words
from quantbench.report.narrative_words import clause, decided
from quantbench.wording import change, is_number, listing, ratio, reduction, seconds

TOLERANCE_POINTS = 10
OPEN, FOR_YOU = "open: the data do not decide", "for you to judge"
OF_SPEED = {"ttft_single", "helps_more_at", "p95", "biggest_change", "batch_gain_over_chat", "batch_p95_blowup"}
"""Questions that a run does not answer whose A/A control failed."""
_SAME = {"equivalent": "same", "better": "better", "worse": "worse"}


@dataclass(frozen=True)
class Measured:
    """What the data say to one question for one variant: words, and the answer in the prediction's own terms."""

    words: str
    answer: str | float | None = None


@dataclass(frozen=True)
class Question:
    """One of the "before" questions. `choices` are the accepted answers, empty for numbers and free text."""

    id: str
    text: str
    measure: Callable[[Facts, str], Measured]
    choices: tuple[str, ...] = ()


def section(facts: Facts) -> Section:
    """The table of questions, predictions, measurements and scores."""
    rows = [_row(facts, question) for question in QUESTIONS]
    columns = ["question", "prediction", "measured", "score"]
    written = [q for q in QUESTIONS if facts.config["predictions"].get(q.id) is not None]
    intro = (
        f"{len(written)} of {len(QUESTIONS)} questions had a prediction before the run (`predictions` in the config)."
        if written
        else "No predictions were written before the run (`predictions` in the config); these are the questions and "
        "what was measured."
    )
    shown = table(columns, rows, caption="Predictions against results", words=range(4))
    return Section("Predictions", (text(intro), shown))


def _row(facts: Facts, question: Question) -> list[str]:
    """One question; with several variants each says what was measured, and what agrees is joined."""
    predicted = facts.config["predictions"].get(question.id)
    found = {variant: question.measure(facts, variant) for variant in facts.variants}
    if question.id in OF_SPEED and not facts.verdict.get("trusted", True):
        found = {variant: Measured(measured.words) for variant, measured in found.items()}
    words = _by_variant(facts, {variant: measured.words for variant, measured in found.items()})
    scores = _by_variant(facts, {v: score(question, predicted, measured) for v, measured in found.items()})
    return [question.text, "" if predicted is None else str(predicted), words, scores]


def _by_variant(facts: Facts, told: dict[str, str]) -> str:
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{facts.label(variant)}: {words}" for variant, words in told.items())


def score(question: Question, predicted: str | float | None, measured: Measured) -> str:
    """right | wrong | open | for you to judge | no prediction."""
    if predicted is None:
        return "no prediction"
    if measured.answer is None:
        return OPEN if question.choices or is_number(predicted) else FOR_YOU
    if is_number(measured.answer):
        if not is_number(predicted):
            return FOR_YOU
        close = TOLERANCE_POINTS if question.id.endswith("_pct") else 0
        return "right" if abs(predicted - measured.answer) <= close else "wrong"
    words = _normal(str(predicted))
    if question.choices and words not in question.choices:
        return FOR_YOU
    return "right" if words == measured.answer else "wrong"


_SYNONYMS = {"improve": "better", "degrade": "worse", "similar": "same", "equal": "same"}


def _normal(answer: str) -> str:
    word = answer.strip().lower()
    return _SYNONYMS.get(word, word)


def _vram(facts: Facts, variant: str) -> Measured:
    row = facts.memory_of(variant)
    weights, whole = row.get("weights_reduction_pct"), row.get("vram_delta_reduction_pct")
    told = []
    if is_number(weights):
        told.append(f"weights {reduction(weights)}")
    if is_number(whole):
        told.append(f"whole server {reduction(whole)}")
    if is_number(row.get("checkpoint_reduction_pct")):
        told.append(f"checkpoint files {reduction(row['checkpoint_reduction_pct'])}")
    answer = weights if is_number(weights) else None
    return Measured(f"{listing(told) or 'not measured'}{' (scored on the weights)' if told and answer else ''}", answer)


def _of_row(facts: Facts, row: Json | None, at: str = "") -> Measured:
    answer = _SAME.get(str(row["code"])) if row else None
    return Measured(f"{clause(facts, row)}{at}", answer)


def _ttft_single(facts: Facts, variant: str) -> Measured:
    rows = [r for w in facts.workloads("interactive") for r in facts.compared(w, variant, "p50_ttft_ms")]
    row = min(rows, key=lambda r: r["concurrency"], default=None)
    return _of_row(facts, row, f" at c={row['concurrency']}" if row else "")


def _startup(facts: Facts, variant: str) -> Measured:
    own, base = (facts.ready.get(m, {}).get("startup", {}).get("total_s") for m in (variant, facts.baseline))
    return Measured(f"{seconds(own)} against {seconds(base)}" if is_number(own) and is_number(base) else "not measured")


def _helps_more_at(facts: Facts, variant: str) -> Measured:
    rows = [r for w in facts.workloads("interactive")[:1] for r in facts.compared(w, variant, "throughput_tok_s")]
    usable = [r for r in rows if is_number(r["ratio"])]
    if len({r["concurrency"] for r in usable}) < 2:
        return Measured("fewer than two concurrencies compared")
    best = max(usable, key=lambda r: r["ratio"])
    rest = [r for r in usable if r is not best]
    clear = is_number(best["ci_low"]) and all(is_number(r["ci_high"]) and r["ci_high"] < best["ci_low"] for r in rest)
    if best["ratio"] <= 1:
        return Measured(f"no gain; the highest ratio, {ratio(best['ratio'])}, is at c={best['concurrency']}")
    words = f"most at c={best['concurrency']} (ratio {ratio(best['ratio'])})"
    return Measured(words if clear else f"{words}, but the intervals overlap", best["concurrency"] if clear else None)


def _highest(facts: Facts, variant: str, style: str, metrics: tuple[str, ...]) -> Json | None:
    """The row at the highest concurrency of a style, of the first metric that has a ratio."""
    for metric in metrics:
        rows = [r for w in facts.workloads(style) for r in facts.compared(w, variant, metric) if is_number(r["ratio"])]
        if rows:
            return max(rows, key=lambda r: r["concurrency"])
    return None


def _tail(facts: Facts, variant: str, style: str) -> Measured:
    row = _highest(facts, variant, style, ("p95_e2e_ms",))
    if row is None:
        return Measured("no p95 could be compared")
    return _of_row(facts, row, f" (p95 E2E at c={row['concurrency']})")


def _p95(facts: Facts, variant: str) -> Measured:
    return _tail(facts, variant, "interactive")


def _batch_p95(facts: Facts, variant: str) -> Measured:
    measured = _tail(facts, variant, "batch")
    answers: dict[str | float | None, str] = {"worse": "yes", "better": "no", "same": "no"}
    return Measured(measured.words, answers.get(measured.answer))


def _biggest(facts: Facts, variant: str) -> Measured:
    kinds = {"throughput_tok_s": "throughput", "p50_ttft_ms": "ttft", "p50_e2e_ms": "e2e"}
    workload = facts.config["primary"]["workload"]
    cell = facts.deciding_cell(workload)
    found = [
        r for metric in kinds if cell and (r := facts.row(workload, variant, cell, metric)) and is_number(r["ratio"])
    ]
    if not found:
        return Measured("not compared")
    largest = max(found, key=lambda r: abs(math.log(r["ratio"])))
    told = ", ".join(f"{kinds[r['metric']]} × {ratio(r['ratio'])}" for r in found)
    return Measured(told, kinds[largest["metric"]] if decided([largest]) else None)


def _batch_gain(facts: Facts, variant: str) -> Measured:
    row = next((r for r in facts.impact if r["variant"] == variant), None)
    if row is None or row.get("reason"):
        return Measured("not compared" if row is None else str(row["reason"]))
    answer = {"batch": "more", "chat": "less"}.get(row["helps_more"])
    return Measured(f"ratio in batch / ratio in chat {ratio(row['quotient'])}: {helps(row)}", answer)


def _breaks_first(facts: Facts, variant: str) -> Measured:
    if variant not in facts.quality:
        return Measured("answers were not compared")
    losses = {e["class"]: e["baseline"] - e["variant"] for e in facts.quality[variant]["classes"]}
    most = max(losses.values(), default=0)
    if most <= 0:
        return Measured("no class lost prompts")
    worst = [name for name, lost in losses.items() if lost == most]
    return Measured(
        f"{listing(name.replace('_', ' ') for name in worst)} ({most} fewer passed)",
        worst[0] if len(worst) == 1 else None,
    )


def _summaries(facts: Facts, variant: str) -> Measured:
    for entry in facts.quality.get(variant, {}).get("classes", []):
        if entry["class"] == "summary":
            lost = entry["baseline"] - entry["variant"]
            return Measured(
                f"summaries passed: {entry['variant']} against {entry['baseline']}", "yes" if lost > 0 else "no"
            )
    return Measured("no summary among the quality prompts")


def _quality(facts: Facts, variant: str) -> Measured:
    return Measured(lost_words(facts, variant) if variant in facts.quality else "answers were not compared")


def _failure_modes(facts: Facts, variant: str) -> Measured:
    if variant not in facts.quality:
        return Measured("answers were not compared")
    worse = [item for item in facts.quality[variant]["details"] if item["change"] == "worse"]
    kinds = dict.fromkeys(
        str(c["type"]).replace("_", " ") for item in worse for c in item["variant"]["checks"] if not c["ok"]
    )
    return Measured(f"failed checks: {listing(kinds)}" if kinds else "no new failure")


def _saving(facts: Facts, variant: str) -> Measured:
    costs = [
        f"{workload} {change(1 / row['ratio'])}{'' if row['code'] in _SAME else ' (not shown)'}"
        for workload in facts.workloads()
        if (cell := facts.deciding_cell(workload))
        and (row := facts.row(workload, variant, cell, "throughput_tok_s"))
        and is_number(row["ratio"])
    ]
    return Measured(f"cost per token: {listing(costs)}" if costs else "no cost could be compared")


def _utilisation(facts: Facts, variant: str) -> Measured:
    return Measured("cost per token is inverse to it; the saving in percent does not depend on it")


_CHANGE = ("better", "same", "worse")
QUESTIONS = (
    Question("vram_reduction_pct", "VRAM reduction against the baseline, in percent?", _vram),
    Question("ttft_single", "TTFT of a single request: better, same, worse?", _ttft_single, _CHANGE),
    Question("startup", "Which differences at start-up?", _startup),
    Question("helps_more_at", "At which concurrency does quantization help most?", _helps_more_at),
    Question("p95", "p95 latency in chat: better, same, worse?", _p95, _CHANGE),
    Question("biggest_change", "Which changes most: throughput, ttft, e2e?", _biggest, ("throughput", "ttft", "e2e")),
    Question("breaks_first", "Which class of tasks breaks first?", _breaks_first),
    Question("ship_unchecked", "Would you ship it without a manual spot check?", _quality),
    Question("failure_modes", "Which failure modes do you look for?", _failure_modes),
    Question(
        "batch_gain_over_chat",
        "Gain in batch (saturated) against chat: more, same, less?",
        _batch_gain,
        ("more", "same", "less"),
    ),
    Question("summary_quality_loss", "Is quality loss visible in summaries: yes, no?", _summaries, ("yes", "no")),
    Question("batch_p95_blowup", "Does p95 blow up at high concurrency in batch: yes, no?", _batch_p95, ("yes", "no")),
    Question("business_win", "Under which assumptions is it a clear business win?", _saving),
    Question("refuse_when", "When would you refuse to quantize?", _quality),
    Question("utilisation", "How does utilisation enter the cost per token?", _utilisation),
)
"""The questions of the specification's "before" lists, in its order."""
