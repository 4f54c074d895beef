"""From speed and quality to one recommendation per use and variant. Pure; the wording is in narrative_decision."""

from __future__ import annotations

from dataclasses import dataclass

from quantbench.report.facts import Cell, Facts, Json
from quantbench.report.narrative_quality import BATCH_USE, CHAT_USE, use_status
from quantbench.wording import change, is_number, listing, metric_name, plural

USES = {"interactive": ("Chat", CHAT_USE), "batch": ("Batch", BATCH_USE)}


@dataclass(frozen=True)
class Choice:
    """One variant for one use. action: use | check | keep | undecided; `speed` is the deciding row."""

    style: str
    workload: str
    variant: str
    cell: Cell | None
    action: str
    speed: Json | None
    quality: str
    quality_why: str
    caveats: tuple[Json, ...] = ()  # the rows of the latencies that got worse

    @property
    def short_why(self) -> str:
        """Why the quality is what it is, without the names of the prompts."""
        return self.quality_why.partition(":")[0]

    @property
    def gain(self) -> str:
        """What the variant does better: it is no faster where a latency got worse."""
        return "gives more tokens/sec" if self.caveats else "is faster"

    @property
    def got_worse(self) -> str:
        """ "p50 TTFT (+234 %) got worse", "" where no latency did."""
        told = listing(f"{metric_name(row['metric'])} ({change(row['ratio'])})" for row in self.caveats)
        return f"{told} got worse" if told else ""

    @property
    def name(self) -> str:
        """ "Chat" or "Batch"."""
        return USES[self.style][0]


def choices(facts: Facts, style: str) -> list[Choice]:
    """One choice per workload of the style and variant."""
    return [_choice(facts, style, w, v) for w in facts.workloads(style) for v in facts.variants]


def _choice(facts: Facts, style: str, workload: str, variant: str) -> Choice:
    cell = facts.deciding_cell(workload)
    speed = facts.row(workload, variant, cell, "throughput_tok_s") if cell else None
    status, why = use_status(facts, variant, USES[style][1])
    action = _action(facts, speed, status)
    slower = _slower(facts, workload, variant, cell) if cell else ()
    return Choice(style, workload, variant, cell, action, speed, status, why, slower)


def _action(facts: Facts, speed: Json | None, quality: str) -> str:
    """Quality can only forbid, never recommend; speed can only recommend where it is shown."""
    code = speed["code"] if speed else "invalid"
    if not facts.verdict.get("trusted", True):
        return "undecided"
    if quality == "not acceptable" or code in ("worse", "equivalent"):
        return "keep"
    if code == "better":
        return "use" if quality == "ok" else "check"
    return "undecided"


def _slower(facts: Facts, workload: str, variant: str, cell: Cell) -> tuple[Json, ...]:
    """Rows of the latencies that got worse in the deciding cell."""
    metrics = ("p50_ttft_ms", "p95_ttft_ms", "p50_e2e_ms", "p95_e2e_ms", "p50_tpot_ms")
    rows = [facts.row(workload, variant, cell, metric) for metric in metrics]
    return tuple(row for row in rows if row and row["code"] == "worse")


def best(found: list[Choice]) -> Choice | None:
    """The choice to name in the headline: "use" before "check", then the highest lower end of the CI."""

    def rank(choice: Choice) -> tuple[bool, float]:
        low = (choice.speed or {}).get("ci_low")
        return choice.action == "use", low if is_number(low) else 0.0

    worthwhile = [choice for choice in found if choice.action in ("use", "check")]
    return max(worthwhile, key=rank, default=None)


def confidence(facts: Facts, choice: Choice) -> tuple[str, list[str]]:
    """(high | medium | low | none, the reasons that lower it)."""
    reasons = []
    aa = facts.verdict.get("aa") or {}
    speed = choice.speed
    if speed is None or speed["code"] in ("no_test", "invalid", "undecided"):
        return "low", ["the speed is not decided"]
    if not speed["interleaved"]:
        reasons.append("the models were not interleaved")
    if not aa.get("present"):
        reasons.append("no A/A control")
    refused = sum(" block " in reason for reason in speed["reasons"])
    if refused:
        reasons.append(f"{plural(refused, 'block')} of this cell {'was' if refused == 1 else 'were'} refused")
    if choice.caveats and choice.style == "interactive" and speed["code"] == "better":
        reasons.append("latency got worse")
    if choice.quality in ("not shown", "not measured"):
        reasons.append(f"quality for this use is {choice.quality}")
    if not facts.verdict.get("trusted", True):
        return "none", ["the A/A control says that the baseline differs from itself"]
    return ("high", "medium", "low")[min(len(reasons), 2)], reasons
