"""From the answers of two models to the score of the pair. The code runner is handed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quantbench.errors import QuantbenchError
from quantbench.quality import score
from quantbench.quality.checks import CodeRunner, run_checks
from quantbench.quality.prompt_set import Prompt
from quantbench.records.quality import Answer, PlainPair, QualityDetails


def plain(baseline: Sequence[Answer], variant: Sequence[Answer]) -> list[PlainPair]:
    """What `quality.json` holds."""
    return [
        PlainPair(prompt=a.prompt, bf16_output=a.output, quant_output=b.output)
        for a, b in zip(baseline, variant, strict=True)
    ]


def details(
    prompts: Sequence[Prompt],
    baseline: tuple[str, Sequence[Answer]],
    variant: tuple[str, Sequence[Answer]],
    notes: Mapping[str, str],
    run_code: CodeRunner,
) -> QualityDetails:
    """What `quality_details.json` holds, but for its words. `baseline` and `variant` are (name, answers).

    `notes` keys: a prompt id, `variant/prompt id`, or a variant. Raises QuantbenchError when the answers do not
    belong to the prompts.
    """
    ids = [prompt["id"] for prompt in prompts]
    for name, answers in (baseline, variant):
        if [answer.id for answer in answers] != ids:
            raise QuantbenchError(
                f"the answers of {name} belong to another prompt file", remedy="delete them and rerun"
            )
    items = [
        score.compare(
            prompt["class"],
            (a, run_checks(a.output, prompt["checks"], run_code)),
            (b, run_checks(b.output, prompt["checks"], run_code)),
            notes.get(f"{variant[0]}/{prompt['id']}") or notes.get(prompt["id"]),
        )
        for prompt, a, b in zip(prompts, baseline[1], variant[1], strict=True)
    ]
    about = [notes[variant[0]]] if variant[0] in notes else []
    floor = score.floor_of(list(_repeats(prompts, baseline[1], run_code)))
    return score.score(items, floor, baseline=baseline[0], variant=variant[0], notes=about)


def _repeats(prompts: Sequence[Prompt], baseline: Sequence[Answer], run_code: CodeRunner) -> Iterator[score.Asked]:
    """The baseline against itself, per prompt and repeat. Equal answers are checked once."""
    for prompt, answer in zip(prompts, baseline, strict=True):
        outcome = score.passed(run_checks(answer.output, prompt["checks"], run_code))
        for again in answer.again:
            same = again.token_ids == answer.token_ids
            passes = outcome if same else score.passed(run_checks(again.output, prompt["checks"], run_code))
            yield score.Asked(prompt["id"], again.concurrency, same, outcome, passes)
