"""The words of `quality_details.json`: its sentences, said from its findings."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from quantbench.quality.score import ALPHA, MIN_PROMPTS, NET_LOSS, STRICT_PROMPTS
from quantbench.records.finding import Finding, finding
from quantbench.records.quality import QualityDetails, QualityVerdict, UseId
from quantbench.report.say import Speech

LABELS: Final[dict[UseId, str]] = {
    "batch": "use.batch",
    "chat": "use.chat",
    "facts": "use.facts",
    "reasoning": "use.reasoning",
    "code": "use.code",
    "json": "use.json",
    "summaries": "use.summaries",
    "languages": "use.languages",
}
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
    reasons = tuple(say(reason) for reason in judged.because)
    uses = (replace(use, use=say(LABELS[use.id]), why=say.all(use.because, "; ")) for use in details.uses)
    return replace(
        details,
        verdict=replace(judged, reasons=reasons, sentence=say(bound(judged))),
        uses=tuple(uses),
        rules=tuple(say(rule) for rule in RULES),
    )


def bound(judged: QualityVerdict) -> Finding:
    """What the number of prompts can and cannot exclude."""
    if judged.loss_rate_upper_95 is None:
        return finding("quality.no_bound")
    return finding("quality.bound", n=len(judged.lost), total=judged.n, bound=judged.loss_rate_upper_95)
