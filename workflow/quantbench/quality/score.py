"""What the answers of a pair say together: what got worse, how sure that is, and for which use it is enough. Pure.

Greedy answers are compared prompt by prompt. A prompt is passed when all its checks hold. The pair is paired by
prompt, so the test is the exact McNemar test on b (passed by the baseline only) and c (by the variant only).
The floor is the baseline asked again: what differs there is not the variant's fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from scipy.stats import binomtest

from quantbench.quality.checks import CheckResult
from quantbench.wording import at_most, plural

MIN_PROMPTS = 15
ALPHA = 0.05
NET_LOSS = 3
STRICT_PROMPTS = 59
VERDICTS = ("no degradation seen", "degraded", "insufficient evidence")
RULES = [
    f"degraded: more prompts lost than the floor and, beyond it, exact McNemar p < {ALPHA} with b > c, or a net loss"
    f" of at least {NET_LOSS} prompts, or a new empty, garbled or looping answer",
    f"no degradation seen: no prompt lost, at least {MIN_PROMPTS} prompts that the baseline passes",
    "insufficient evidence: anything else, and always when the two models did not get the same tokens",
    f"a use is 'not acceptable' when prompts of a class it needs were lost beyond the floor (for batch jobs: when the"
    f" pair is degraded); 'ok' when none was lost in at least {MIN_PROMPTS} passed prompts of it; else 'not shown'",
    f"user-facing chat needs {STRICT_PROMPTS} passed prompts without a loss (about 5 % lost at most, 95 % one-sided)",
]
# use, prompt classes that it needs (empty: all), whether it needs the strict number of prompts
USES: list[tuple[str, tuple[str, ...], bool]] = [
    ("internal tools / batch jobs", (), False),
    ("user-facing chat", (), True),
    ("exact facts and look-ups", ("fact", "lookup"), False),
    ("arithmetic and reasoning", ("arithmetic", "reasoning"), False),
    ("code generation", ("code",), False),
    ("structured output (JSON)", ("json", "extraction"), False),
    ("summaries", ("summary",), False),
    ("languages other than English", ("second_language",), False),
]

Item = dict[str, Any]


def passed(results: Sequence[CheckResult]) -> bool:
    """All checks hold."""
    return all(r.ok for r in results)


def first_divergence(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Index of the first token that differs (or that only one has); None for equal sequences."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return None if len(a) == len(b) else min(len(a), len(b))


def upper_bound(k: int, n: int) -> float | None:
    """Upper end of the two-sided 95 % Clopper-Pearson interval of k of n; None without trials."""
    return float(binomtest(k, n).proportion_ci(0.95, method="exact").high) if n else None


def mcnemar(b: int, c: int) -> float | None:
    """Exact two-sided p of b against c discordant pairs; None when there is none (no test possible)."""
    return float(binomtest(b, b + c, 0.5).pvalue) if b + c else None


def p_words(p: float) -> str:
    """ "= 0.125", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def compare(prompt: Mapping[str, Any], baseline: Item, variant: Item, note: str | None = None) -> dict[str, Any]:
    """One prompt of the pair. `baseline` and `variant` are answers with `checks` (list of CheckResult)."""
    was, now = passed(baseline["checks"]), passed(variant["checks"])
    change = {(True, False): "worse", (False, True): "better", (True, True): "both pass"}.get((was, now), "both fail")
    hard = [r.type for r in variant["checks"] if r.hard and not r.ok]
    held = [r.type for r in baseline["checks"] if r.hard and not r.ok]
    return {
        "id": prompt["id"],
        "class": prompt["class"],
        "prompt": baseline["prompt"],
        "change": change,
        "identical": baseline["output"] == variant["output"],
        "same_input": baseline.get("prompt_token_ids_sha256") == variant.get("prompt_token_ids_sha256"),
        "first_divergence_token": first_divergence(baseline["token_ids"], variant["token_ids"]),
        "new_hard_failures": [kind for kind in hard if kind not in held],
        "baseline": _side(baseline, was),
        "variant": _side(variant, now),
        "note": note,
    }


def _side(answer: Item, ok: bool) -> dict[str, Any]:
    return {
        "output": answer["output"],
        "passed": ok,
        "tokens": answer["tokens"],
        "finish_reason": answer["finish_reason"],
        "checks": [r.as_dict() for r in answer["checks"]],
    }


def floor_of(passes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The baseline against itself. One entry per (prompt, repeat): `identical`, `first_pass`, `again_pass`."""
    n = len(passes)
    same = sum(bool(p["identical"]) for p in passes)
    lost = sorted({p["id"] for p in passes if p["first_pass"] and not p["again_pass"]})
    gained = sorted({p["id"] for p in passes if p["again_pass"] and not p["first_pass"]})
    return {
        "measured": n > 0,
        "answers": n,
        "identical": same,
        "identical_share": same / n if n else None,
        "lost": lost,
        "gained": gained,
        "concurrency": sorted({p["concurrency"] for p in passes}),
    }


def _length(rows: Sequence[Item]) -> dict[str, Any]:
    pairs = [(r["baseline"]["tokens"], r["variant"]["tokens"]) for r in rows]
    logs = [math.log(b / a) for a, b in pairs if a and b]
    return {
        "baseline_tokens": sum(a for a, _ in pairs),
        "variant_tokens": sum(b for _, b in pairs),
        "mean_ratio": math.exp(sum(logs) / len(logs)) if logs else None,
        "cut_at_max_tokens": {
            side: sum(r[side]["finish_reason"] == "length" for r in rows) for side in ("baseline", "variant")
        },
    }


def verdict(rows: Sequence[Item], floor: Mapping[str, Any]) -> dict[str, Any]:
    """The word, its reasons and the sentence that says what the number of prompts can and cannot exclude."""
    worse = [r["id"] for r in rows if r["change"] == "worse" and r["id"] not in floor["lost"]]
    better = [r["id"] for r in rows if r["change"] == "better" and r["id"] not in floor["gained"]]
    hard = [r["id"] for r in rows if r["new_hard_failures"] and r["id"] not in floor["lost"]]
    n = sum(r["baseline"]["passed"] for r in rows)
    b, c = len(worse), len(better)
    p = mcnemar(b, c)
    foreign = sum(not r["same_input"] for r in rows)
    reasons = []
    if p is not None and p < ALPHA and b > c:
        reasons.append(f"exact McNemar p {p_words(p)} ({b} lost, {c} gained)")
    if b - c >= NET_LOSS:
        reasons.append(f"net loss of {b - c} of {plural(n, 'prompt')}")
    if hard:
        reasons.append(f"new empty, garbled or looping answers: {', '.join(hard)}")
    word = VERDICTS[1] if reasons else VERDICTS[0] if b == 0 and n >= MIN_PROMPTS else VERDICTS[2]
    if foreign:
        told = plural(foreign, "prompt")
        reasons.append(f"{told} reached the two models as different tokens (tokenizer or chat template)")
        word = VERDICTS[2]
    if not reasons and n < MIN_PROMPTS:
        reasons.append(f"the baseline passes {plural(n, 'prompt')}, at least {MIN_PROMPTS} are needed")
    if not reasons and b and p is not None:
        reasons.append(f"{b} of {plural(n, 'prompt')} lost: too few to tell from chance (exact McNemar p {p_words(p)})")
    bound = upper_bound(b, n)
    sentence = (
        f"{b} of {plural(n, 'prompt')} that the baseline passes {'was' if b == 1 else 'were'} lost; with 95 %"
        f" confidence the loss rate on prompts like these is at most {at_most(bound)}."
        if bound is not None
        else "The baseline passes no prompt, so nothing can be said."
    )
    return {
        "word": word, "reasons": reasons, "sentence": sentence, "n": n, "lost": worse, "gained": better,
        "mcnemar_p": p, "loss_rate": b / n if n else None, "loss_rate_upper_95": bound,
    }  # fmt: skip


def advice(rows: Sequence[Item], judged: Mapping[str, Any]) -> list[dict[str, str]]:
    """One line per use: ok, not acceptable, or not shown, and why."""
    lines = []
    for use, classes, strict in USES:
        mine = [r for r in rows if (not classes or r["class"] in classes) and r["baseline"]["passed"]]
        lost = [r["id"] for r in mine if r["id"] in judged["lost"]]
        lines.append({"use": use, **_use(mine, lost, bool(classes), strict, judged)})
    return lines


def _use(
    mine: Sequence[Item], lost: Sequence[str], special: bool, strict: bool, judged: Mapping[str, Any]
) -> dict[str, str]:
    told = f"lost {len(lost)} of {len(mine)}" + (f": {', '.join(lost)}" if lost else "")
    if not mine:
        return {"status": "not shown", "why": "no prompt of this kind that the baseline passes"}
    if any(not r["same_input"] for r in mine):
        return {"status": "not shown", "why": "; ".join(judged["reasons"])}
    if lost and (special or strict or judged["word"] == VERDICTS[1]):
        return {"status": "not acceptable", "why": told}
    if not special and judged["word"] == VERDICTS[1]:
        return {"status": "not acceptable", "why": "; ".join(judged["reasons"])}
    needed = STRICT_PROMPTS if strict else MIN_PROMPTS
    if len(mine) < needed:
        return {"status": "not shown", "why": f"{told}, {needed} prompts are needed"}
    return {"status": "not shown" if lost else "ok", "why": told}


def score(
    rows: Sequence[Item], floor: Mapping[str, Any], *, baseline: str, variant: str, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """All that `quality_details.json` says about one pair; `rows` come from `compare`."""
    judged = verdict(rows, floor)
    same = sum(r["identical"] for r in rows)
    forks = [r["first_divergence_token"] for r in rows if r["first_divergence_token"] is not None]
    return {
        "baseline": baseline,
        "variant": variant,
        "prompts": len(rows),
        "passed": {side: sum(r[side]["passed"] for r in rows) for side in ("baseline", "variant")},
        "worse": [r["id"] for r in rows if r["change"] == "worse"],
        "better": [r["id"] for r in rows if r["change"] == "better"],
        "classes": _classes(rows),
        "identical": same,
        "identical_share": same / len(rows) if rows else None,
        "median_first_divergence_token": median(forks) if forks else None,
        "length": _length(rows),
        "floor": dict(floor),
        "verdict": judged,
        "uses": advice(rows, judged),
        "rules": RULES,
        "notes": list(notes),
        "details": list(rows),
    }


def _classes(rows: Sequence[Item]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(r["class"] for r in rows))
    groups = {name: [r for r in rows if r["class"] == name] for name in names}
    sides = ("baseline", "variant")
    return [
        {"class": name, "prompts": len(group), **{s: sum(r[s]["passed"] for r in group) for s in sides}}
        for name, group in groups.items()
    ]
