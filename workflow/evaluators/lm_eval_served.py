"""Run tasks of lm-eval against a served model, in lm-eval's own environment.

`.venv-lmeval/bin/python workflow/evaluators/lm_eval_served.py JOB.json`

The job is what `quantbench.quality.lm_eval.job` makes; its folder gets one samples file per task, as `lm_eval
--log_samples` writes them, and run.json, or fault.json with what is wrong and what to do about it. The key of a server
that wants one comes in OPENAI_API_KEY.

lm-eval's own API models leave sampling fields to the server, cut prompts that are too long with a line in the log, and
need transformers or a server flag for the tokenizer. Here the server tokenizes and applies the chat template once, all
requests carry token ids and every sampling field, the ids must come back as they were sent, and nothing is cut.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import datasets
import nltk
import requests
from huggingface_hub import constants
from lm_eval import simple_evaluate
from lm_eval.api.model import TemplateLM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from quantbench.quality import checks

TRIES = 3
TIMEOUT_S = 600
DEFAULT_MAX_TOKENS = 256
SEED = 1234


class TaskError(Exception):
    """What keeps the tasks from being asked, and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


class Served(TemplateLM):  # type: ignore[misc]
    """A model behind an OpenAI-compatible server that has vLLM's /tokenize, /detokenize and prompt_logprobs."""

    def __init__(
        self,
        url: str,
        model: str,
        sampling: dict[str, Any],
        concurrency: int,
        max_tokens: int | None,
        thinking_tokens: int,
        template_kwargs: dict[str, bool],
    ) -> None:
        super().__init__()
        self.thinking_tokens = thinking_tokens
        self.template = {"chat_template_kwargs": template_kwargs} if template_kwargs else {}
        self.thinks = any(template_kwargs.values())
        self.url, self.model, self.sampling = url.rstrip("/"), model, sampling
        self.concurrency, self.max_tokens = concurrency, max_tokens
        self.key = os.environ.get("OPENAI_API_KEY", "")
        self.session = requests.Session()
        self.session.headers["Content-Type"] = "application/json"
        if self.key:
            self.session.headers["Authorization"] = f"Bearer {self.key}"
        # A server of this machine is never asked through a proxy.
        self.session.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
        self.session.mount("http", requests.adapters.HTTPAdapter(pool_maxsize=concurrency))
        cards = self._send("GET", "/v1/models")["data"]
        own = [card for card in cards if card.get("id") == model]
        if not own:
            raise TaskError(
                f"{url} serves {', '.join(str(c.get('id')) for c in cards)}, not {model}", "name what it serves"
            )
        self.longest = int(own[0].get("max_model_len") or 0)
        self.rendered: dict[str, list[int]] = {}
        """Conversations by the text that lm-eval holds for them."""
        self.asked: dict[tuple[str, str], dict[str, Any]] = {}
        """By context and continuation (empty for an answer): hash of the ids, tokens of the answer, was it cut."""

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        said = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(2**attempt)
            try:
                reply = self.session.request(
                    method, self.url + path, json=body, timeout=TIMEOUT_S, allow_redirects=False
                )
                said = f"HTTP {reply.status_code}: {reply.text[:300]}"
                if reply.status_code == 200:
                    return reply.json()
                if reply.status_code < 500 and reply.status_code not in (408, 425, 429):
                    break
            except (requests.RequestException, ValueError) as error:
                said = str(error) or type(error).__name__
        said = said.replace(self.key, "[key]") if self.key else said
        raise TaskError(
            f"{self.url}{path} did not answer as it should: {said}", "see the server's log, then run this again"
        )

    # Text to ids

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """A conversation as it was rendered; any other text as the server would tokenize it in a request."""
        if string in self.rendered:
            return self.rendered[string]
        special = add_special_tokens is not False
        body = {"model": self.model, "prompt": string, "add_special_tokens": special}
        return list(self._send("POST", "/tokenize", body)["tokens"])

    def apply_chat_template(self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """The conversation as text, for lm-eval to hold; its ids are kept and are what is sent."""
        body = {
            "model": self.model, "messages": chat_history, "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt, **self.template,
        }  # fmt: skip
        ids = list(self._send("POST", "/tokenize", body)["tokens"])
        text = str(self._send("POST", "/detokenize", {"model": self.model, "tokens": ids})["prompt"])
        self.rendered[text] = ids
        return text

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context in self.rendered:  # the answer begins a turn: nothing of the template joins with it
            return self.rendered[context], self.tok_encode(continuation, add_special_tokens=False)
        pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return pair

    @property
    def eot_token_id(self) -> int:
        """What stands in front of a text that has no context: the tokenizer's own begin-of-text."""
        leading = self.tok_encode("", add_special_tokens=True)
        if not leading:
            raise TaskError(
                f"{self.model} has no begin-of-text token, and a task scores a text without any context",
                "leave that task out, or give it a doc_to_text",
            )
        return leading[0]

    @property
    def tokenizer_name(self) -> str:
        """The server's own."""
        return self.model

    # Requests

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, in order. A thought is no part of an answer; one that does not end leaves nothing."""
        prompts = [(str(r.args[0]), dict(r.args[1]), r.task_name) for r in requests]
        ready = [(text, self.tok_encode(text), *self._kwargs(kwargs), task) for text, kwargs, task in prompts]
        for _, ids, _, limit, task in ready:
            self._fits(task, len(ids), limit)
        return list(self._at_once(self._answer, ready, disable_tqdm))

    def _kwargs(self, kwargs: dict[str, Any]) -> tuple[list[str], int]:
        until = kwargs.get("until") or []
        limit = self.max_tokens or kwargs.get("max_gen_toks") or kwargs.get("max_tokens") or DEFAULT_MAX_TOKENS
        return ([until] if isinstance(until, str) else list(until)), int(limit) + self.thinking_tokens

    def _answer(self, text: str, ids: list[int], until: list[str], limit: int, task: str) -> str:
        stop = None if self.thinks else until or None  # a thought is not ended by what ends an answer
        body = {"model": self.model, "prompt": ids, "max_tokens": limit, "stop": stop, **self.sampling}
        reply = self._send("POST", "/v1/completions", body)
        choice = reply["choices"][0]
        self._came_back(task, ids, choice)
        output, cut = choice["text"], choice["finish_reason"] == "length"
        whole = ("<think>" if checks.opens_thought(text) else "") + output
        thought, answer = checks.thought(whole), checks.answered(whole)
        self.asked[text, ""] = {
            "ids": _sha(ids),
            "tokens": reply["usage"]["completion_tokens"],
            "cut": cut,
            "in_thought": thought == "open",
        }
        answer = answer if thought == "none" else answer.lstrip()
        for end in until if self.thinks else ():
            answer = answer.partition(end)[0]
        return answer

    def _loglikelihood_tokens(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        ready = [(context, more, a, b) for (context, more), a, b in requests]
        for context, _, a, b in ready:
            self._fits(context[:60], len(a) + len(b), 1)
        return list(self._at_once(self._likelihood, ready, disable_tqdm))

    def _likelihood(self, context: str, more: str, a: list[int], b: list[int]) -> tuple[float, bool]:
        """Log-probability of the ids b behind a, and whether each is the likeliest, by its rank: texts may collide."""
        body = {"model": self.model, "prompt": a + b, "max_tokens": 1, "prompt_logprobs": 0, **self.sampling}
        choice = self._send("POST", "/v1/completions", body)["choices"][0]
        self._came_back(context[:60], a + b, choice)
        places = choice["prompt_logprobs"][len(a) :]
        own = [place[str(token)] for place, token in zip(places, b, strict=True)]
        self.asked[context, more] = {"ids": _sha(a + b), "tokens": 0, "cut": False, "in_thought": False}
        return sum(p["logprob"] for p in own), all(p["rank"] == 1 for p in own)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Not asked: perplexity has no pass or fail per item."""
        raise TaskError(
            f"{requests[0].task_name} measures perplexity, which has no pass or fail per item", "leave it out"
        )

    def _fits(self, where: str, prompt: int, answer: int) -> None:
        if self.longest and prompt + answer > self.longest:
            raise TaskError(
                f"{where}: a prompt of {prompt} tokens and {answer} for the answer are more than the {self.longest} "
                "that the server takes",
                "raise server.max_model_len, or lower the suite's num_fewshot, max_tokens or quality.thinking_tokens",
            )

    def _came_back(self, where: str, ids: list[int], choice: dict[str, Any]) -> None:
        if choice.get("prompt_token_ids") != ids:
            raise TaskError(
                f"{self.url}: a prompt of {where} arrived with other token ids than were sent", "see its log"
            )

    def _at_once(self, ask: Any, ready: Sequence[tuple[Any, ...]], quiet: bool) -> Iterable[Any]:
        done: list[Any] = []
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(ask, *one) for one in ready]
            try:
                for future in futures:
                    done.append(future.result())
                    if not quiet and len(done) % 100 == 0:
                        print(f"{len(done)} of {len(ready)} requests", file=sys.stderr, flush=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return done

    def of_sample(self, arguments: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """What was asked for one sample: hash over the ids of its requests, tokens of its answer, was it cut."""
        keys = [(str(a[0]), a[1] if isinstance(a[1], str) else "") for a in arguments]
        seen = [self.asked[key] for key in keys]
        return {
            "prompt_ids_sha256": hashlib.sha256("".join(s["ids"] for s in seen).encode()).hexdigest(),
            "tokens": sum(s["tokens"] for s in seen),
            "cut": any(s["cut"] for s in seen),
            "in_thought": any(s["in_thought"] for s in seen),
        }


def _sha(ids: Sequence[int]) -> str:
    return hashlib.sha256(repr(list(ids)).encode()).hexdigest()


def load(manager: TaskManager, name: str) -> dict[str, Any]:
    """The tasks that a name stands for. Raises TaskError that names the data which is not here, and its cache."""
    if name not in manager.all_tasks:
        near = get_close_matches(name, manager.all_tasks, 3)
        raise TaskError(
            f"lm-eval {importlib.metadata.version('lm_eval')} has no task {name}",
            f"{'did you mean ' + ', '.join(near) + '? ' if near else ''}Tasks of your own are found by include_path",
        )
    if (manager.task_index[name].cfg or {}).get("unsafe_code"):  # its own code would be loaded to find out otherwise
        raise _runs_code(name)
    try:
        found: dict[str, Any] = manager.load([name])["tasks"]
    except TaskError:
        raise
    except Exception as error:  # whatever a task's own code and its data raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing:
            raise TaskError(
                f"task {name} needs the Python package {missing}", "install it into lm-eval's environment"
            ) from error
        raise TaskError(
            f"task {name}: its data cannot be read offline ({type(error).__name__}: {lines[0][:300]}); looked in "
            f"{datasets.config.HF_DATASETS_CACHE} and {constants.HF_HUB_CACHE}",
            "load the task once on a machine that reaches the hub and copy these folders here (HF_HOME names another "
            "place); without a hub, only tasks of your own with a JSONL file work (include_path)",
        ) from error
    for own, task in found.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise _runs_code(own)
        if int(task.get_config("repeats") or 1) > 1:
            raise TaskError(
                f"task {own} samples several answers per item, and here all are greedy", "take another task"
            )
    return found


def _runs_code(task: str) -> TaskError:
    return TaskError(
        f"task {task} runs code of answers, without a fence", "ask for code by a prompt file of quantbench instead"
    )


def no_download(resource: str, *_: Any, **__: Any) -> None:
    """In place of NLTK's own, which waits for a network for minutes."""
    raise TaskError(
        f"a task needs NLTK's {resource}, which is not in {', '.join(nltk.data.path[:2])}",
        f"put it there from a machine that reaches the network: python -m nltk.downloader {resource}",
    )


def run(job: dict[str, Any]) -> None:
    """Ask all tasks of a job and write what came of it."""
    nltk.download = no_download
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    manager = TaskManager(include_path=job["include_path"])
    loaded: dict[str, Any] = {}
    for name in job["tasks"]:
        loaded |= load(manager, name)
    for name, task in loaded.items() if job["thinking"] else ():
        if task.get_config("output_type") != "generate_until":
            raise TaskError(
                f"task {name} compares likelihoods of given answers, before which nothing is thought, and "
                "quality.thinking is true",
                "leave that task out, take one that generates, or set quality.thinking to false or null",
            )
    model = Served(
        job["url"], job["model"], job["sampling"], job["concurrency"], job["max_tokens"], job["thinking_tokens"],
        job["template_kwargs"],
    )  # fmt: skip
    results = simple_evaluate(
        model=model, tasks=job["tasks"], task_manager=manager, num_fewshot=job["num_fewshot"], limit=job["limit"],
        apply_chat_template=job["chat"], fewshot_as_multiturn=job["chat"], log_samples=True, bootstrap_iters=0,
        random_seed=SEED, numpy_random_seed=SEED, torch_random_seed=SEED, fewshot_random_seed=SEED,
    )  # fmt: skip
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.date_id, tracker.general_config_tracker.model_name_sanitized = "run", "."
    for task, samples in results["samples"].items():
        for sample in samples:
            sample["quantbench"] = model.of_sample(sample["arguments"])
        tracker.save_results_samples(task_name=task, samples=samples)
        if not (folder / f"samples_{task}_run.jsonl").exists():
            raise TaskError(f"the samples of {task} could not be written to {folder}", "make room on that disk")
    facts = {
        "lm_eval": importlib.metadata.version("lm_eval"),
        "tasks": {
            task: {
                "version": results["versions"].get(task),
                "num_fewshot": results["n-shot"].get(task),
                "items": results["n-samples"][task]["effective"],
                "of": results["n-samples"][task]["original"],
                "output_type": loaded[task].get_config("output_type"),
            }
            for task in results["samples"]
        },
    }
    (folder / "run.json").write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")


def main() -> None:
    """Exit code 3: fault.json says why."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        run(job)
    except TaskError as fault:
        text = json.dumps({"what": fault.what, "remedy": fault.remedy}) + "\n"
        (Path(job["folder"]) / "fault.json").write_text(text, encoding="utf-8")
        print(f"{fault.what}\n  remedy: {fault.remedy}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
