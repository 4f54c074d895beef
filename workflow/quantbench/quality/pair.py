"""From the answers of two models to the rows and the score of the pair. Pure but for the code runner handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.quality import score
from quantbench.quality.checks import CodeRunner, run_checks
from quantbench.quality.prompt_set import Answer, Prompt


def plain(baseline: Sequence[Answer], variant: Sequence[Answer]) -> list[dict[str, str]]:
    """Exactly what `quality.json` holds: prompt, bf16_output, quant_output."""
    return [
        {"prompt": a["prompt"], "bf16_output": a["output"], "quant_output": b["output"]}
        for a, b in zip(baseline, variant, strict=True)
    ]


def details(
    prompts: Sequence[Prompt],
    baseline: tuple[str, Sequence[Answer]],
    variant: tuple[str, Sequence[Answer]],
    notes: Mapping[str, str],
    run_code: CodeRunner,
) -> dict[str, Any]:
    """What `quality_details.json` holds. `baseline` and `variant` are (name, answers).

    `notes` keys: a prompt id, `variant/prompt id`, or a variant. Raises QuantbenchError when the answers do not
    belong to the prompts, or a note to nothing.
    """
    ids = [prompt["id"] for prompt in prompts]
    for name, answers in (baseline, variant):
        if [a["id"] for a in answers] != ids:
            raise QuantbenchError(
                f"the answers of {name} belong to another prompt file", remedy="delete them and rerun"
            )
    rows = [
        score.compare(
            prompt,
            {**a, "checks": run_checks(a["output"], prompt["checks"], run_code)},
            {**b, "checks": run_checks(b["output"], prompt["checks"], run_code)},
            notes.get(f"{variant[0]}/{prompt['id']}") or notes.get(prompt["id"]),
        )
        for prompt, a, b in zip(prompts, baseline[1], variant[1], strict=True)
    ]
    about = [notes[variant[0]]] if variant[0] in notes else []
    floor = score.floor_of(_repeats(prompts, baseline[1], run_code))
    return score.score(rows, floor, baseline=baseline[0], variant=variant[0], notes=about)


def _repeats(prompts: Sequence[Prompt], baseline: Sequence[Answer], run_code: CodeRunner) -> list[dict[str, Any]]:
    """The baseline against itself: one entry per prompt and repeat. Equal answers are checked once."""
    entries = []
    for prompt, answer in zip(prompts, baseline, strict=True):
        outcome = score.passed(run_checks(answer["output"], prompt["checks"], run_code))
        for again in answer.get("again", []):
            same = again["token_ids"] == answer["token_ids"]
            passes = outcome if same else score.passed(run_checks(again["output"], prompt["checks"], run_code))
            entries.append(
                {
                    "id": prompt["id"],
                    "concurrency": again["concurrency"],
                    "identical": same,
                    "first_pass": outcome,
                    "again_pass": passes,
                }
            )
    return entries
