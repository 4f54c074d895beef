"""The section "Quality Sanity Check": what got worse, verbatim, for which use it is enough, and the risk. Pure."""

from __future__ import annotations

from quantbench.quality.score import MIN_PROMPTS, STRICT_PROMPTS
from quantbench.report.document import Code, Compare, Details, Part, Section, Table, bullets, table, text
from quantbench.report.facts import Facts, Json
from quantbench.wording import at_most, integer, is_number, listing, percent, plural, sentence

NOT_MEASURED = (
    "The answers were not compared in this run, so nothing is known about quality. "
    "Do not ship a quantized model on speed alone."
)
STATUS_WORDS = {"not acceptable": "Not acceptable for", "not shown": "Not shown to be OK for", "ok": "OK for"}
BATCH_USE, CHAT_USE = "internal tools / batch jobs", "user-facing chat"


def section(facts: Facts) -> Section:
    """Per variant a verdict, the table of prompts and what got worse; at last the paragraph on risk."""
    if not facts.quality:
        return Section("Quality Sanity Check", (text(NOT_MEASURED), text(risk_paragraph(facts))))
    own = tuple(Section(facts.label(variant), _pair(facts, variant)) for variant in facts.quality)
    risk = Section("Quality risk", (text(risk_paragraph(facts)),))
    return Section("Quality Sanity Check", (text(_how(facts)),), (*own, risk))


def _how(facts: Facts) -> str:
    details = next(iter(facts.quality.values()))
    classes = listing(entry["class"].replace("_", " ") for entry in details["classes"])
    return (
        f"{plural(details['prompts'], 'prompt')} ({classes}) went to both models, greedy, with the chat "
        "template applied once. A prompt is passed when all its checks hold; the checks are automatic and simple, so "
        "read the answers as well: all are in `quality.json` (with several variants in `quality_{variant}.json`)."
    )


def _pair(facts: Facts, variant: str) -> tuple[Part, ...]:
    details = facts.quality[variant]
    return (
        text(verdict_sentence(facts, variant), _floor_sentence(details), _length_sentence(facts, details)),
        *bullets(use_sentences(details)),
        prompt_table(facts, variant),
        text(
            _notes_sentence(details), *(f"A person on this model: {sentence(str(n))}" for n in details.get("notes", []))
        ),
        *_changed(facts, variant),
    )


def verdict_sentence(facts: Facts, variant: str) -> str:
    """The word, the sentence with its bound, and the reasons."""
    judged = facts.quality[variant]["verdict"]
    why = f" ({'; '.join(judged['reasons'])})" if judged["reasons"] else ""
    return f"**{sentence(facts.label(variant) + ': ' + judged['word'] + why)}** {sentence(judged['sentence'])}"


def _floor_sentence(details: Json) -> str:
    floor = details["floor"]
    if not floor.get("measured"):
        return "The baseline was not asked twice, so its own noise is not known."
    lost = f"; it lost {listing(floor['lost'])} itself" if floor["lost"] else "; it lost no prompt itself"
    return (
        f"Asked again, the baseline gave the same answer in {integer(floor['identical'])} of "
        f"{plural(floor['answers'], 'case')}{lost}; the variant gave the baseline's answer in "
        f"{integer(details['identical'])} of {integer(details['prompts'])}."
    )


def _length_sentence(facts: Facts, details: Json) -> str:
    length = details["length"]
    if not is_number(length.get("mean_ratio")):
        return ""
    cut = length["cut_at_max_tokens"]
    return (
        f"Answers are {_longer(length['mean_ratio'])} on average; {integer(cut['variant'])} of the variant's and "
        f"{integer(cut['baseline'])} of the baseline's ran into the token limit."
    )


def _longer(ratio: float) -> str:
    if abs(ratio - 1) < 0.005:
        return "as long as the baseline's"
    return f"{percent(abs(ratio - 1))} {'longer' if ratio > 1 else 'shorter'} than the baseline's"


def use_sentences(details: Json) -> list[str]:
    """ "OK for X: why" per use, the refusals first."""
    order = list(STATUS_WORDS)
    uses = sorted(details["uses"], key=lambda entry: order.index(entry["status"]))
    return [sentence(f"**{STATUS_WORDS[entry['status']]} {entry['use']}**: {entry['why']}") for entry in uses]


def use_status(facts: Facts, variant: str, use: str) -> tuple[str, str]:
    """(status, why) of one use; "not measured" where answers were not compared."""
    for entry in facts.quality.get(variant, {}).get("uses", []):
        if entry["use"] == use:
            return str(entry["status"]), str(entry["why"])
    return "not measured", "answers were not compared"


def prompt_table(facts: Facts, variant: str) -> Table:
    """A row per prompt: did both pass, where the answers part, what a person wrote."""
    details = facts.quality[variant]
    rows = [_prompt_row(item) for item in details["details"]]
    parting = "token at which the answers part"
    columns = [
        "prompt",
        "class",
        facts.label(facts.baseline),
        facts.label(variant),
        "change",
        parting,
        "note by a person",
    ]
    notes = (
        [f"Blank in “{parting}”: the answers are the same."]
        if any(item["identical"] for item in details["details"])
        else []
    )
    return table(columns, rows, caption=f"Prompts, {facts.label(variant)}", notes=notes, words=(0, 1, 2, 3, 4, 6))


def _prompt_row(item: Json) -> list[str]:
    return [
        f"`{item['id']}`",
        item["class"].replace("_", " "),
        *("pass" if item[side]["passed"] else f"fail: {_failed(item[side])}" for side in ("baseline", "variant")),
        item["change"],
        integer(item["first_divergence_token"]),
        str(item.get("note") or ""),
    ]


def _failed(side: Json) -> str:
    return listing(str(check["type"]).replace("_", " ") for check in side["checks"] if not check["ok"]) or "unknown"


def _notes_sentence(details: Json) -> str:
    noted = sum(bool(item.get("note")) for item in details["details"])
    if not noted:
        return (
            "No person has annotated these answers yet; a verdict per prompt goes into `quality.notes` of the config "
            "and appears here."
        )
    return f"A person annotated {integer(noted)} of {plural(len(details['details']), 'prompt')}."


def _changed(facts: Facts, variant: str) -> tuple[Part, ...]:
    """Prompts whose outcome changed, with both answers verbatim; the worse ones in the open."""
    details = facts.quality[variant]["details"]
    worse = [item for item in details if item["change"] == "worse"]
    rest = [item for item in details if item["change"] != "worse" and not item["identical"]]
    parts: list[Part] = []
    if worse:
        parts.append(text(f"What got worse, verbatim ({plural(len(worse), 'prompt')}):"))
        parts += [part for item in worse for part in _verbatim(facts, variant, item)]
    else:
        parts.append(text("No prompt got worse."))
    if rest:
        folded = tuple(part for item in rest for part in _verbatim(facts, variant, item))
        parts.append(Details(f"Answers that differ without getting worse ({integer(len(rest))})", folded))
    return tuple(parts)


def _verbatim(facts: Facts, variant: str, item: Json) -> list[Part]:
    why = "; ".join(str(c.get("detail") or c["type"]) for c in item["variant"]["checks"] if not c["ok"])
    return [
        text(f"`{item['id']}` ({item['class'].replace('_', ' ')}, {item['change']}){f': {why}' if why else ''}"),
        Code(str(item["prompt"]), caption="Prompt"),
        Compare(
            Code(item["baseline"]["output"], caption=facts.label(facts.baseline)),
            Code(item["variant"]["output"], caption=facts.label(variant)),
        ),
    ]


def risk_paragraph(facts: Facts) -> str:
    """How to think about quality risk when quantizing, with the figures of this run."""
    judged = [details["verdict"] for details in facts.quality.values()]
    bounds = [j["loss_rate_upper_95"] for j in judged if is_number(j.get("loss_rate_upper_95"))]
    here = (
        f"The check here can only say that the loss rate on such prompts is at most {at_most(min(bounds))} "
        f"{'to ' + at_most(max(bounds)) + ', by model' if max(bounds) > min(bounds) else 'with 95 % confidence'}. "
        if bounds
        else ""
    )
    return (
        "How to think about quality risk when quantizing: reading a few answers by hand is enough where a person sees "
        "every output and a wrong one costs little (internal tools, drafts, batch jobs that are sampled). "
        f"{here}An automatic evaluation is needed where nobody reads the output, where customers do, or where rules "
        f"demand proof; even {STRICT_PROMPTS} passed prompts without a loss bound the loss rate at 5 % only, and fewer "
        f"than {MIN_PROMPTS} show next to nothing. Failure modes to watch for: loops and repetition, empty or cut "
        "answers, broken JSON or code, wrong numbers, the wrong language, a lost instruction, and refusals that appear "
        "or vanish."
    )


def lost_words(facts: Facts, variant: str) -> str:
    """ "2 of 15 prompts lost (a, b)", for tables and decisions."""
    judged = facts.quality[variant]["verdict"]
    named = judged["lost"] if len(judged["lost"]) <= 3 else [*judged["lost"][:2], f"{len(judged['lost']) - 2} more"]
    names = f" ({listing(named)})" if named else ""
    return f"{integer(len(judged['lost']))} of {plural(judged['n'], 'prompt')} lost{names}"
