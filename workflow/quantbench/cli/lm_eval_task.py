"""`python -m quantbench lm-eval-task config/prompts/quality.jsonl my_tasks/quality`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lm-eval-task`."""
    parser.add_argument("prompts", type=Path, help="a prompt file of quantbench")
    parser.add_argument("folder", type=Path, help="gets the task, which is named like it")


def run(args: argparse.Namespace) -> int:
    """Write the task and say how it is asked."""
    from quantbench import wording
    from quantbench.errors import QuantbenchError
    from quantbench.quality import lm_eval

    try:
        task = lm_eval.write_task(args.prompts, args.folder)
    except OSError as error:
        raise QuantbenchError(f"{args.prompts} cannot be read: {error.strerror}") from None
    if task.left_out:
        print(
            f"left out {wording.plural(len(task.left_out), 'prompt')} with code or several turns, which lm-eval does "
            f"not judge or ask: {', '.join(task.left_out)}",
            file=sys.stderr,
        )
    print(
        f"PYTHONPATH={lm_eval.LIBRARY} lm_eval run --model local-chat-completions --model_args "
        "model=NAME,base_url=http://127.0.0.1:8000/v1/chat/completions,num_concurrent=8 --apply_chat_template "
        f"--tasks {task.name} --include_path {args.folder} --log_samples --output_path out"
    )
    return 0
