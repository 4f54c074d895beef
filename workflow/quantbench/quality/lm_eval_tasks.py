"""A prompt file of quantbench as a task of lm-eval: YAML, JSONL, and a module that judges by our own checks.

Left out are prompts that lm-eval cannot ask (several turns) or that its environment does not judge (code: no fence).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from quantbench.errors import QuantbenchError
from quantbench.quality.prompt_set import Prompt

JUDGES: Final = '''"""Judges answers as quantbench does; its `workflow` folder must be on PYTHONPATH."""

import json

from quantbench.quality.checks import run_checks


def passed(doc, results):
    """1 where all checks of the prompt hold, with the three that hold for every answer."""
    return {"passed": int(all(result.ok for result in run_checks(results[0], json.loads(doc["checks"]), None)))}
'''


class TaskFolder(NamedTuple):
    """A task to be written: its name, texts by file name, and the ids of the prompts that are not in it."""

    name: str
    files: dict[str, str]
    left_out: tuple[str, ...]


def task_folder(prompts: Sequence[Prompt], name: str, folder: str) -> TaskFolder:
    """The task `name` of these prompts. folder: where it will lie; lm-eval finds its data by that path.

    lm-eval has one length of answers per task, so it is the longest of all prompts.

    Raises QuantbenchError when no prompt is left.
    """
    kept = [prompt for prompt in prompts if _single(prompt) and _judged(prompt)]
    if not kept:
        raise QuantbenchError(
            f"{name}: lm-eval could ask none of these prompts (it asks single questions, and code is not judged there)",
            remedy="name a file with other prompts",
        )
    rows = (
        {
            "id": prompt["id"],
            "class": prompt["class"],
            "cluster": str(prompt.get("cluster", "")),
            "question": _question(prompt),
            # As text: a table's rows must all have the same columns.
            "checks": json.dumps(prompt["checks"], ensure_ascii=False),
        }
        for prompt in kept
    )
    files = {
        f"{name}.yaml": _yaml(name, f"{folder}/{name}.jsonl", max(prompt["max_tokens"] for prompt in kept)),
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "quantbench_judges.py": JUDGES,
    }
    taken = {prompt["id"] for prompt in kept}
    return TaskFolder(name, files, tuple(p["id"] for p in prompts if p["id"] not in taken))


def _yaml(name: str, data: str, longest: int) -> str:
    return f"""task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {json.dumps(data)}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{id}}}}"
generation_kwargs: {{until: [], do_sample: false, temperature: 0.0, max_gen_toks: {longest}}}
process_results: !function quantbench_judges.passed
metric_list: [{{metric: passed, aggregation: mean, higher_is_better: true}}]
num_fewshot: 0
metadata: {{version: 1.0}}
"""


def _single(prompt: Prompt) -> bool:
    turns = prompt.get("messages")
    return turns is None or (len(turns) == 1 and turns[0]["role"] == "user")


def _judged(prompt: Prompt) -> bool:
    return all(check["type"] != "python" for check in prompt["checks"])


def _question(prompt: Prompt) -> str:
    return str(prompt["prompt"] if "prompt" in prompt else prompt["messages"][0]["content"])
