"""The section "Quality Sanity Check", and answers.md: every answer that changed, verbatim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quantbench.quality.score import MIN_PROMPTS, STRICT_PROMPTS
from quantbench.records.finding import Finding, finding
from quantbench.records.quality import Item, QualityDetails, Side, Use, UseId
from quantbench.records.run import Run
from quantbench.report.document import Code, Compare, Details, Page, Part, Section, Table, bullets, table, text
from quantbench.report.say import Speech
from quantbench.wording import integer

USES: Final[dict[UseId, str]] = {
    "batch": "internal tools / batch jobs",
    "chat": "user-facing chat",
    "facts": "exact facts and look-ups",
    "reasoning": "arithmetic and reasoning",
    "code": "code generation",
    "json": "structured output (JSON)",
    "summaries": "summaries",
    "languages": "languages other than English",
}
OTHER_LENGTH: Final = 0.05
"""Share by which answers are longer or shorter before it is worth a sentence."""
NAMED: Final = 3
"""Lost prompts that a line names; beyond it two are named and the others counted."""


def section(run: Run, say: Speech) -> Section:
    """The verdict on each variant, for which uses it is enough, which classes lost, and the paragraph on risk."""
    risk = Section("Quality risk", (text(say("quality_page.risk", strict=STRICT_PROMPTS, least=MIN_PROMPTS)),))
    if not run.quality:
        return Section("Quality Sanity Check", (text(say("quality_page.not_measured")),), (risk,))
    pairs = list(run.quality.values())
    how = [finding("quality_page.how", prompts=pairs[0].prompts), *dict.fromkeys_of_floors(pairs)]
    return Section("Quality Sanity Check", (text(say.all(how)),), (risk,))
