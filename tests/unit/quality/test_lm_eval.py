"""lm-eval: which metric decides, items joined, a prompt file as a task, and the program's process; its samples are of a
real run (SmolLM2-135M-Instruct in BF16 and INT4, tests/data/lm_eval).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace
from quantbench.cli.main import main
from quantbench.errors import QuantbenchError
from quantbench.quality import checks, lm_eval, lm_eval_samples, lm_eval_tasks
from quantbench.quality.lm_eval_samples import Decides
from quantbench.records.lm_eval import LmEvalAnswers, LmEvalSettings, LmEvalTask
from source import ROOT, imported, modules, names

DATA = ROOT / "tests/data/lm_eval"
TASKS = ("own_capitals", "own_sums")


def real(model: str) -> LmEvalAnswers:
    """What a real run said of a model, from its kept samples."""
    tasks, items = [], []
    for task in TASKS:
        samples = lm_eval.read_samples(DATA / f"{model}_{task}.jsonl")
        by = lm_eval_samples.decides(task, samples)
        found = lm_eval_samples.items(task, samples, by, {})
        tasks.append(LmEvalTask(name=task, version="1", **by._asdict(), num_fewshot=0, items=len(found), of=20))
        items += found
    version = lm_eval.version_of(LmEvalSettings(tasks=TASKS), "0.4.13", tasks, items)
    return LmEvalAnswers(model=model, version=version, lm_eval="0.4.13", tasks=tuple(tasks), items=tuple(items))


def sample(n: int, by: str = "none", **metrics: Any) -> dict[str, Any]:
    asked = {"prompt_ids_sha256": f"p{n}", "tokens": n, "cut": False}
    return {
        "doc": {"question": n}, "doc_id": n, "doc_hash": f"h{n}", "filter": by, "metrics": list(metrics), **metrics,
        "quantbench": asked,
    }  # fmt: skip


def test_a_real_run_is_joined_item_by_item() -> None:
    score = lm_eval_samples.score("tasks", real("bf16"), real("int4"))
    assert (score.kind, score.baseline, score.variant) == ("lm_eval", "bf16", "int4")
    by_kind = {kind: [o for o in score.outcomes if o.kind == kind] for kind in ("fact", "arithmetic")}
    assert [len(found) for found in by_kind.values()] == [6, 8]
    assert all(o.same_input for o in score.outcomes)
    for outcome in by_kind["arithmetic"]:  # the last number of the answer, read here without lm-eval
        for side, model in ((outcome.baseline, "bf16"), (outcome.variant, "int4")):
            line = next(s for s in answers(model, "own_sums") if outcome.id == f"own_sums/{s['doc']['id']}")
            asked = {"type": "exact_number", "value": int(line["target"])}
            assert side.passed == checks.exact_number(line["resps"][0][0], asked)[0], outcome.id
            assert side.tokens > 0
    for outcome in by_kind["fact"]:  # the likeliest choice per letter
        line = next(s for s in answers("int4", "own_capitals") if outcome.id == f"own_capitals/{s['doc']['id']}")
        likely = [float(r[0][0]) / len(c) for r, c in zip(line["resps"], line["doc"]["choices"], strict=True)]
        assert outcome.variant.passed == (likely.index(max(likely)) == line["doc"]["answer"])
    lost = [o.id for o in score.outcomes if o.baseline.passed and not o.variant.passed]
    assert len(lost) == 7, "three capitals and four sums were kept for that"


def answers(model: str, task: str) -> list[dict[str, Any]]:
    return lm_eval.read_samples(DATA / f"{model}_{task}.jsonl")


@pytest.mark.parametrize(("offered", "named", "chosen"), [
    ([("acc", "none", 1.0), ("acc_norm", "none", 0.0)], None, Decides("acc_norm", "none")),
    ([("acc", "none", True), ("brier_score", "none", 0.3)], None, Decides("acc", "none")),
    ([("exact_match", "strict-match", 1.0), ("exact_match", "flexible-extract", 0.0)], None,
     Decides("exact_match", "flexible-extract")),
    ([("exact_match", "strict-match", 1.0), ("exact_match", "flexible-extract", 0.0)], "exact_match,strict-match",
     Decides("exact_match", "strict-match")),
    ([("exact_match", "get-answer", 1.0)], None, Decides("exact_match", "get-answer")),
    ([("prompt_level_strict_acc", "none", True), ("inst_level_strict_acc", "none", [True])], None,
     Decides("prompt_level_strict_acc", "none")),
    ([("their_own", "none", 1), ("acc", "none", 0)], "their_own", Decides("their_own", "none")),
])  # fmt: skip
def test_a_declared_rule_says_which_metric_decides(
    offered: list[tuple[str, str, Any]], named: str | None, chosen: Decides
) -> None:
    samples: list[dict[str, Any]] = []
    for by in dict.fromkeys(by for _, by, _ in offered):
        samples.append(sample(0, by, **{metric: value for metric, through, value in offered if through == by}))
    assert lm_eval_samples.decides("t", samples, named) == chosen


@pytest.mark.fault(
    "a task of lm-eval without a metric of 0 or 1 per item (perplexity, ROUGE), or a metric that it has not",
    "the message names the task and what it offers; nothing is paired",
)
@pytest.mark.parametrize(("metrics", "named", "words"), [
    ({"rouge1": 0.4}, None, r"none of the metrics of task t \(rouge1,none\)"),
    ({"acc": 0.5}, None, "none of the metrics"),
    ({"their_own": 1}, None, "none of the metrics"),
    ({"rouge1": 0.4, "acc": 1}, "rouge1", "rouge1 of task t is not 0 or 1"),
    ({"acc": 1}, "acc_norm", "metrics.t: acc_norm is none of acc,none"),
    ({"acc": 1}, "acc,strict", "metrics.t: acc,strict is none of acc,none"),
])  # fmt: skip
def test_what_is_not_pass_or_fail_is_refused(metrics: dict[str, Any], named: str | None, words: str) -> None:
    with pytest.raises(QuantbenchError, match=words):
        lm_eval_samples.decides("t", [sample(0, **metrics), sample(1, **metrics)], named)


def test_one_item_that_is_half_right_rules_a_metric_out() -> None:
    samples = [sample(0, acc_norm=1.0, acc=1.0), sample(1, acc_norm=0.5, acc=0.0)]
    assert lm_eval_samples.decides("t", samples) == Decides("acc", "none")


@pytest.mark.parametrize(("doc", "task", "kind", "name"), [
    ({"class": "code"}, "mmlu_law", "mine", "mmlu_law/0"), ({"class": "code", "id": "a"}, "gsm8k", "code", "gsm8k/a"),
    ({"id": 7}, "mmlu_law", "fact", "mmlu_law/0"), ({}, "their_task", "their_task", "their_task/0"),
    ("text", "arc_easy", "fact", "arc_easy/0"),
])  # fmt: skip
def test_the_class_is_the_suites_then_the_documents_then_the_tables(doc: Any, task: str, kind: str, name: str) -> None:
    classes = {"mmlu_law": "mine"} if kind == "mine" else {}
    found = lm_eval_samples.items(task, [sample(0, acc=1) | {"doc": doc}], Decides("acc", "none"), classes)
    assert [(item.kind, item.id) for item in found] == [(kind, name)]


def test_an_item_that_is_there_twice_is_refused() -> None:
    twice = [sample(0, acc=1) | {"doc": {"id": "a"}}, sample(1, acc=1) | {"doc": {"id": "a"}}]
    with pytest.raises(QuantbenchError, match="t/a twice"):
        lm_eval_samples.items("t", twice, Decides("acc", "none"), {})


@pytest.mark.fault(
    "two models of an lm-eval suite were asked with other settings, other items or other data",
    "no score; the message names the first item and says what to delete. Other token ids are said per item",
)
def test_models_that_were_asked_otherwise_are_not_paired() -> None:
    bf16, int4 = real("bf16"), real("int4")
    first = int4.items[0]
    with pytest.raises(QuantbenchError, match="not asked in the same way"):
        lm_eval_samples.score("s", bf16, replace(int4, version="other"))
    with pytest.raises(QuantbenchError, match="own_capitals/capital-france"):
        lm_eval_samples.score("s", bf16, replace(int4, items=int4.items[1:]))
    with pytest.raises(QuantbenchError, match="own_capitals/capital-france holds other data"):
        lm_eval_samples.score("s", bf16, replace(int4, items=(replace(first, doc_hash="x"), *int4.items[1:])))
    other = replace(int4, items=(replace(first, prompt_ids_sha256="x"), *int4.items[1:]))
    assert [o.same_input for o in lm_eval_samples.score("s", bf16, other).outcomes].count(False) == 1


def test_the_floor_is_the_baseline_asked_again() -> None:
    bf16 = real("bf16")
    flipped = replace(bf16.items[0], passed=not bf16.items[0].passed)
    outcomes = lm_eval_samples.score("s", replace(bf16, again=((flipped, *bf16.items[1:]),)), real("int4")).outcomes
    assert [o.again[0].passed != o.baseline.passed for o in outcomes].count(True) == 1


def test_the_version_is_of_what_was_asked() -> None:
    bf16, settings = real("bf16"), LmEvalSettings(tasks=TASKS)
    assert real("int4").version == bf16.version, "not of the answers"
    others = [
        lm_eval.version_of(replace(settings, chat=False), "0.4.13", bf16.tasks, bf16.items),
        lm_eval.version_of(settings, "0.4.14", bf16.tasks, bf16.items),
        lm_eval.version_of(settings, "0.4.13", bf16.tasks[:1], bf16.items),
        lm_eval.version_of(settings, "0.4.13", bf16.tasks, bf16.items[1:]),
    ]
    assert len({bf16.version, *others}) == 5
    assert lm_eval.version_of(replace(settings, concurrency=1), "0.4.13", bf16.tasks, bf16.items) == bf16.version


@pytest.mark.parametrize(
    ("line", "words"), [(b'{"doc": 1', "line 2: not JSON"), (b'{"doc": {}}', "line 2: without doc_id")]
)
def test_a_damaged_samples_file_names_its_line(tmp_path: Path, line: bytes, words: str) -> None:
    (tmp_path / "s.jsonl").write_bytes(json.dumps(sample(0, acc=1)).encode() + b"\n" + line)
    with pytest.raises(QuantbenchError, match=f"s.jsonl is damaged: {words}"):
        lm_eval.read_samples(tmp_path / "s.jsonl")


# Our prompts as a task

PROMPTS = [
    {"id": "a", "class": "fact", "prompt": 'Who? "x": {{y}}', "max_tokens": 8,
     "checks": [{"type": "contains", "all": ["Z"]}]},
    {"id": "b", "class": "json", "messages": [{"role": "user", "content": "q"}], "max_tokens": 32, "checks": []},
    {"id": "c", "class": "code", "prompt": "f", "max_tokens": 99, "checks": [{"type": "python", "tests": ["f(1)"]}]},
    {"id": "d", "class": "fact", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
     "max_tokens": 99, "checks": []},
]  # fmt: skip


def test_a_prompt_file_becomes_a_task_that_is_judged_by_our_checks(tmp_path: Path) -> None:
    folder = tmp_path / "my tasks/quality"
    source = tmp_path / "p.jsonl"
    source.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    task = lm_eval.write_task(source, folder)
    assert (task.name, task.left_out) == ("quality", ("c", "d"))
    told = yaml.safe_load((folder / "quality.yaml").read_text().replace("!function ", ""))
    rows = [json.loads(line) for line in Path(told["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()]
    assert [row["question"] for row in rows] == ['Who? "x": {{y}}', "q"]
    assert told["generation_kwargs"]["max_gen_toks"] == 32
    assert told["doc_to_text"] == "{{question}}"
    space: dict[str, Any] = {}
    exec((folder / "quantbench_judges.py").read_text(), space)
    assert [space["passed"](rows[0], [text])["passed"] for text in ("It is Z.", "It is Y.", "")] == [1, 0, 0]


def test_a_file_of_which_lm_eval_can_ask_nothing_is_refused() -> None:
    with pytest.raises(QuantbenchError, match="t: lm-eval could ask none"):
        lm_eval_tasks.task_folder(PROMPTS[2:], "t", "/t")


def test_the_command_writes_a_task_and_says_how_it_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lm-eval-task", str(ROOT / "config/prompts/quality.jsonl"), str(tmp_path / "quality")]) == 0
    said = capsys.readouterr()
    assert "--tasks quality --include_path" in said.out
    assert "code-leap-year" in said.err
    assert main(["lm-eval-task", str(tmp_path / "none.jsonl"), str(tmp_path / "t")]) == 2
    assert main(["lm-eval-task", str(ROOT / "config/prompts/quality.jsonl"), str(tmp_path / "a b")]) == 2


def test_the_environment_has_what_the_checks_import() -> None:
    listed = (ROOT / "envs/lmeval.in").read_text().split()
    pinned = {line.split("==")[0].lower() for line in (ROOT / "envs/lmeval.txt").read_text().splitlines()}
    known, foreign, left = modules(), set[str](), ["quality/checks"]
    seen = set(left)
    while left:
        path = known[left.pop()]
        foreign |= {name.split(".")[0] for name in names(path)} - sys.stdlib_module_names - {"quantbench"}
        new = imported(path) - seen
        seen |= new
        left += new
    assert {"jsonschema", "msgspec"} <= foreign, "the walk finds imports"
    # by the names of their packages, where these differ from those of the modules
    packages = {
        {"yaml": "pyyaml", "lingua": "lingua-language-detector"}.get(name, name).replace("_", "-") for name in foreign
    }
    assert packages <= pinned | set(listed)
    assert not {"torch", "transformers"} & pinned


# The process, with a stand-in for lm-eval's interpreter

STAND_IN = """#!{python}
import json, os, sys
from pathlib import Path
job = json.loads(Path(sys.argv[3]).read_text())
Path({seen!r}).write_text(json.dumps([sys.argv, dict(os.environ)]))
folder = Path(job["folder"])
{body}
"""
ANSWERS = """
print("asking")
sample = {"doc": {"id": "a"}, "doc_id": 0, "doc_hash": "h", "filter": "none", "metrics": ["acc"], "acc": 1.0,
          "quantbench": {"prompt_ids_sha256": "p", "tokens": 3, "cut": True}}
(folder / "samples_t_run.jsonl").write_text(json.dumps(sample) + "\\n")
told = {"version": 2, "num_fewshot": None, "items": 1, "of": 9}
(folder / "run.json").write_text(json.dumps({"lm_eval": "0.4.13", "tasks": {"t": told}}))
"""


def stand_in(tmp_path: Path, body: str) -> str:
    program = tmp_path / "python"
    program.write_text(STAND_IN.format(python=sys.executable, seen=str(tmp_path / "seen.json"), body=body))
    program.chmod(0o755)
    return str(program)


def collect(tmp_path: Path, body: str = ANSWERS, key: str | None = None, **more: Any) -> LmEvalAnswers:
    settings = LmEvalSettings(tasks=("t",), limit=1)
    python = stand_in(tmp_path, body)
    return lm_eval.collect("http://x", "served", key, settings, tmp_path / "log", python=python, **more)


def test_one_pass_per_concurrency_and_what_is_kept(tmp_path: Path) -> None:
    found = collect(tmp_path, name="int8", samples=tmp_path / "kept", again=[1])
    assert (found.model, found.lm_eval, [item.id for item in found.items]) == ("int8", "0.4.13", ["t/a"])
    assert found.items[0].cut
    assert found.tasks[0] == LmEvalTask(
        name="t", version="2", metric="acc", filter="none", num_fewshot=0, items=1, of=9
    )
    assert [len(one) for one in found.again] == [1]
    jobs = [json.loads((tmp_path / "kept" / part / "job.json").read_text()) for part in ("", "again1")]
    assert [job["concurrency"] for job in jobs] == [8, 1]
    assert jobs[0]["sampling"]["repetition_penalty"] == 1.0
    assert (tmp_path / "log").read_text().count("asking") == 2


def test_the_key_is_in_the_environment_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-another-server")
    collect(tmp_path, key="sk-secret", samples=tmp_path / "kept")
    argv, env = json.loads((tmp_path / "seen.json").read_text())
    assert env["OPENAI_API_KEY"] == "sk-secret"
    assert all(env[name] == "1" for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    texts = [*argv, *(path.read_text() for path in (tmp_path / "kept").iterdir()), (tmp_path / "log").read_text()]
    assert not any("sk-secret" in text for text in texts)
    collect(tmp_path)
    assert "OPENAI_API_KEY" not in json.loads((tmp_path / "seen.json").read_text())[1]


@pytest.mark.fault(
    "lm-eval: a task it does not know, data that is not in the caches, code to run, prompts longer than the server "
    "takes, a server that fails, a package that is missing, no environment, killed",
    "one message that names the task, the caches or the server, and what to do; the log is kept",
)
@pytest.mark.parametrize(("body", "words"), [
    ('(folder / "fault.json").write_text(json.dumps({"what": "no task x", "remedy": "do y"})); sys.exit(3)',
     "(?s)lm-eval: no task x.*remedy: do y"),
    ("import no_such_package", "(?s)No module named 'no_such_package'.*make setup-lmeval"),
    ("print(os.environ['OPENAI_API_KEY']); sys.exit(4)", r"ended with code 4: \[key\]"),
    ("os.kill(os.getpid(), 9)", "ended by signal 9"),
])  # fmt: skip
def test_a_program_that_fails_is_an_error_with_its_words(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(QuantbenchError, match=words) as raised:
        collect(tmp_path, body, key="sk-secret")
    assert str(tmp_path / "log") in str(raised.value)


def test_no_environment_is_an_error_that_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"(?s)does not exist here.*make setup-lmeval"):
        lm_eval.collect("u", "m", None, LmEvalSettings(tasks=("t",)), tmp_path / "log", python=str(tmp_path / "none"))


def test_a_prompt_file_is_asked_as_a_task_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "my.prompts.jsonl").write_text(json.dumps(PROMPTS[0]) + "\n")
    settings = LmEvalSettings(items=str(tmp_path / "my.prompts.jsonl"))
    python = stand_in(tmp_path, ANSWERS)
    lm_eval.collect("u", "m", None, settings, tmp_path / "log", python=python, samples=tmp_path / "kept")
    job = json.loads((tmp_path / "kept/job.json").read_text())
    assert job["tasks"] == ["quantbench_my_prompts"]
    assert (Path(job["include_path"][0]) / "quantbench_judges.py").read_text() == lm_eval_tasks.JUDGES
