"""Ask a served model tasks of lm-eval, which runs in an environment of its own (`make setup-lmeval`).

The program there is `workflow/evaluators/lm_eval_served.py`. It is always offline: a task whose data is not in the
caches of Hugging Face is an error that names them. Without a hub that leaves tasks of one's own with a JSONL file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from quantbench import files
from quantbench.engines import api_key
from quantbench.errors import QuantbenchError
from quantbench.observe import programs
from quantbench.quality import lm_eval_samples, lm_eval_tasks, prompt_set
from quantbench.quality.answers import GREEDY, said_of, template_kwargs, thought_of
from quantbench.records.lm_eval import LmEvalAnswers, LmEvalItem, LmEvalSettings, LmEvalTask
from quantbench.serving import processes

LIBRARY = Path(__file__).parents[2]
PROGRAM = LIBRARY / "evaluators/lm_eval_served.py"
OFFLINE = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1",
}  # fmt: skip
PYTHON = ".venv-lmeval/bin/python"
REFUSED = 3
"""Exit code of the program that has written fault.json."""
REMEDY = "`make setup-lmeval` makes its environment; lmeval_python names another"


def collect(
    url: str,
    model: str,
    key: str | None,
    settings: LmEvalSettings,
    log: Path | str,
    *,
    python: str = PYTHON,
    name: str | None = None,
    samples: Path | str | None = None,
    again: Sequence[int] = (),
) -> LmEvalAnswers:
    """Pass or fail of one served model per item.

    model: the name that it is served by; name: that of the record, if another. python: the interpreter of lm-eval's
    environment. samples: a folder that gets lm-eval's samples files; None keeps none. again: the same once more, at
    each of these concurrencies, for the floor. What the program prints goes to `log`.

    Raises QuantbenchError that names the task, the data and its caches, or the server at fault.
    """
    log = Path(log)
    passes = []
    with _folder(samples) as folder:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        prompts = _own_task(settings, folder)
        for n, at_once in enumerate((settings.concurrency, *again)):
            out = folder if n == 0 else folder / f"again{n}"
            asked = job(url, model, settings, at_once, out, prompts)
            _run(asked, python, key, log)
            passes.append(_read(out, settings, log))
    (version, tasks, items), *others = passes
    return LmEvalAnswers(
        model=name or model,
        version=version_of(settings, version, tasks, items),
        lm_eval=version,
        tasks=tasks,
        items=items,
        again=tuple(items for _, _, items in others),
    )


def job(
    url: str, model: str, settings: LmEvalSettings, concurrency: int, folder: Path, prompts: Path | None
) -> dict[str, Any]:
    """What the program is told, no secret in it. prompts: the folder of a task made of a prompt file."""
    own, thought = [prompts.name] if prompts else [], thought_of(settings)
    return {
        "url": url,
        "model": model,
        "folder": str(folder.resolve()),
        "tasks": [*settings.tasks, *own],
        "include_path": [str(Path(path).resolve()) for path in (settings.include_path, prompts) if path],
        "limit": settings.limit,
        "num_fewshot": settings.num_fewshot,
        "chat": settings.chat,
        "max_tokens": settings.max_tokens,
        "concurrency": concurrency,
        "sampling": GREEDY,
        "thinking": thought.thinking,
        "thinking_tokens": thought.tokens,
        "template_kwargs": template_kwargs(thought),
    }


def version_of(settings: LmEvalSettings, version: str, tasks: Sequence[LmEvalTask], items: Sequence[LmEvalItem]) -> str:
    """Hash of what was asked and how: the data of each item, the tasks, and each setting that an answer depends on."""
    how = [settings.limit, settings.num_fewshot, settings.chat, settings.max_tokens, GREEDY, version]
    how += said_of(thought_of(settings))
    what = [[t.name, t.version, t.metric, t.filter, t.num_fewshot] for t in tasks]
    data = [[item.id, item.doc_hash] for item in items]
    return hashlib.sha256(json.dumps([how, what, data], sort_keys=True).encode()).hexdigest()


def write_task(prompts: Path | str, folder: Path | str) -> lm_eval_tasks.TaskFolder:
    """Make a task of a prompt file in `folder`; its name is the folder's."""
    path, folder = Path(prompts), Path(folder)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", folder.name):
        raise QuantbenchError(
            f"{folder}: a task is named like its folder, by letters, digits, _ and -", remedy="take another folder"
        )
    parsed = prompt_set.parse(path.read_text(encoding="utf-8"), str(path))
    task = lm_eval_tasks.task_folder(parsed, folder.name, str(folder.resolve()))
    for name, text in task.files.items():
        files.write_text(folder / name, text)
    return task


def _own_task(settings: LmEvalSettings, folder: Path) -> Path | None:
    if not settings.items:
        return None
    own = folder / f"quantbench_{re.sub(r'[^A-Za-z0-9_]', '_', Path(settings.items).stem)}"
    write_task(settings.items, own)
    return own


@contextmanager
def _folder(samples: Path | str | None) -> Iterator[Path]:
    """An empty folder: the one that is kept, or one for the time being."""
    if samples is None:
        with tempfile.TemporaryDirectory(prefix="quantbench-lm-eval-") as folder:
            yield Path(folder)
        return
    shutil.rmtree(samples, ignore_errors=True)
    Path(samples).mkdir(parents=True, exist_ok=True)
    yield Path(samples)


def command(python: str, job_file: Path) -> list[str]:
    """The words that start the program; what it is told is in the file, the key in its environment."""
    return [python, "-u", str(PROGRAM), str(job_file)]


def environment(key: str | None) -> dict[str, str]:
    """Offline, with our library to import, and with the key of this server or none."""
    own = {**os.environ, **OFFLINE, "PYTHONPATH": str(LIBRARY)}
    own.pop(api_key.NAME, None)
    return own | ({api_key.NAME: key} if key else {})


def _run(asked: dict[str, Any], python: str, key: str | None, log: Path) -> None:
    folder = Path(asked["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    job_file = folder / "job.json"
    files.write_json(job_file, asked)
    words = command(python, job_file)
    with log.open("ab") as out:
        out.write((" ".join(words) + "\n").encode())
        out.flush()
        try:
            done = subprocess.run(
                words,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment(key),
                check=False,
                preexec_fn=processes.die_with_parent,
            )
        except OSError as error:
            why, _ = programs.not_started(python, "lmeval_python", error)
            raise QuantbenchError(f"lm-eval: {why}", remedy=REMEDY, log=log) from None
    if done.returncode:
        raise _failed(done.returncode, folder, log, key)


def _failed(code: int, folder: Path, log: Path, key: str | None) -> QuantbenchError:
    """The error of a program that ended with a code: its own words, else the last line of the log."""
    if code == REFUSED and (folder / "fault.json").exists():
        fault = files.read_json(folder / "fault.json", "what", "remedy")
        return QuantbenchError(f"lm-eval: {fault['what']}", remedy=fault["remedy"], log=log)
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = api_key.hidden(lines[-1], key)
    if code < 0:
        return QuantbenchError(f"lm-eval was ended by signal {-code}", remedy="run the same command again", log=log)
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '([\w.]+)'", said)
    remedy = REMEDY if missing else "the log says where; leave that task out, or correct it"
    return QuantbenchError(f"lm-eval ended with code {code}: {said[:300]}", remedy=remedy, log=log)


def _read(
    folder: Path, settings: LmEvalSettings, log: Path
) -> tuple[str, tuple[LmEvalTask, ...], tuple[LmEvalItem, ...]]:
    """(version of lm-eval, tasks, items) of one pass."""
    facts = files.read_json(folder / "run.json", "lm_eval", "tasks")
    tasks, items = [], []
    for name, told in facts["tasks"].items():
        samples = read_samples(folder / f"samples_{name}_run.jsonl")
        if not samples:
            raise QuantbenchError(f"lm-eval asked no item of task {name}", remedy="leave it out", log=log)
        by = lm_eval_samples.decides(name, samples, settings.metrics.get(name))
        found = lm_eval_samples.items(name, samples, by, settings.classes)
        tasks.append(
            LmEvalTask(
                name=name,
                version=str(told["version"]),
                metric=by.metric,
                filter=by.filter,
                num_fewshot=int(told["num_fewshot"] or 0),
                items=len(found),
                of=told["of"],
            )
        )
        items += found
    return str(facts["lm_eval"]), tuple(tasks), tuple(items)


def read_samples(path: Path | str) -> list[dict[str, Any]]:
    """The lines of a samples file. Raises QuantbenchError naming the file and the line at fault."""
    samples = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            sample = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise files.damaged(path, f"line {number}: not JSON ({error})") from None
        needed = ("doc", "doc_id", "doc_hash", "filter", "metrics", "quantbench")
        if lacking := [key for key in needed if key not in sample]:
            raise files.damaged(path, f"line {number}: without {', '.join(lacking)}")
        samples.append(sample)
    return samples
