"""The section "How it was measured": versions, order, validity, lane time, client, guards. Pure."""

from __future__ import annotations

from quantbench.config import command_line
from quantbench.report.document import Part, Section, Table, bullets, table, text
from quantbench.report.facts import Facts, Json
from quantbench.report.narrative_words import interleaved_of
from quantbench.wording import (
    integer,
    is_number,
    listing,
    number,
    percent,
    plural,
    seconds,
    sentence,
    with_unit,
)

MODE_WORDS = {
    "sleep": "both servers stayed loaded, one awake at a time (vLLM sleep mode)",
    "resident": "all servers stayed up, one asked at a time",
    "restart": "the server was restarted for each change of model",
    "endpoint": "the servers were running already and were not started or stopped",
}
CALIBRATION = {
    "ttft_error_p50_ms": "TTFT error p50 (ms)",
    "ttft_error_p95_ms": "TTFT error p95 (ms)",
    "e2e_error_p50_ms": "E2E error p50 (ms)",
    "cpu_share": "CPU share",
    "loop_lag_p99_ms": "loop lag p99 (ms)",
    "concurrency_held": "concurrency held",
}


def how_section(facts: Facts) -> Section:
    """Versions, order of blocks, validity, lane time, client, guards."""
    parts: list[Part] = [
        *bullets(
            [
                _where(facts),
                *_differences(facts),
                _blocks(facts),
                _order(facts),
                _control(facts),
                _lane(facts),
                *_shares(facts),
                _memory_back(facts),
                _client(facts),
                *_limits(facts),
                _server(facts),
                _precision(facts),
            ]
        ),
        *([calibration_table(facts)] if calibration_table(facts).rows else []),
        guard_table(facts),
        text(_checks_sentence(facts)),
        *bullets(_checks(facts)),
    ]
    invalid = _invalid(facts)
    if invalid:
        parts += [text("Blocks that were refused, and why:"), *bullets(invalid)]
    return Section("How it was measured", tuple(parts))


def _where(facts: Facts) -> str:
    """Machine, versions and date."""
    kinds: dict[str, dict[str, None]] = {}
    for versions in facts.measurement["versions"].values():
        for name, version in versions.items():
            if version:
                kinds.setdefault(name, {})[str(version)] = None
    told = [f"{name} {listing(found)}" for name, found in kinds.items()]
    first, last = facts.measurement.get("first_block_at"), facts.measurement.get("last_block_at")
    when = f"; measured from {_minute(first)} to {_minute(last)} UTC" if first and last else ""
    return sentence(f"Machine: {facts.gpu_name}{f' with {listing(told)}' if told else ''}{when}")


def _differences(facts: Facts) -> list[str]:
    """Server settings that the config gives to one model only."""
    found: dict[str, Json] = facts.config.get("server_differences") or {}
    told = {model: listing(f"`{key}: {value}`" for key, value in own.items()) for model, own in found.items()}
    return [
        f"{facts.label(model)} is served with its own {settings}; all else is the same for every model."
        for model, settings in told.items()
    ]


def _minute(iso: str) -> str:
    return iso[:16].replace("T", " ")


def _blocks(facts: Facts) -> str:
    blocks = facts.measurement["blocks"]
    low, high = blocks["fewest_per_cell"], blocks["most_per_cell"]
    per_cell = plural(high, "block") if low == high else f"{low} to {plural(high, 'block')}"
    return (
        f"The unit of replication is the block: {per_cell} per model and cell, "
        f"{plural(blocks['total'], 'block')} in all, {integer(blocks['valid'])} of them valid; "
        f"{seconds(facts.measurement['measured_s'])} were measured."
    )


def _order(facts: Facts) -> str:
    order = facts.measurement["order"]
    if not order["cells"] or not facts.variants:
        return "Only one model was measured, so there is no order of models to tell."
    letters = listing(f"{letter} = {_arm(facts, arm)}" for letter, arm in order["letters"].items())
    example = f"in one cell {order['example']} ({letters})"
    interleaved, tellable = interleaved_of(facts)
    if not tellable:
        return f"There are too few pairs of valid blocks to tell whether the models were interleaved ({example})."
    if interleaved == tellable:
        return f"The models were interleaved block by block, {example}, so slow drift cancels out."
    if interleaved:
        return (
            f"The models were interleaved in {integer(interleaved)} of {plural(tellable, 'comparison')}, "
            f"{example}; where they were not, drift is not excluded."
        )
    return f"The models were not interleaved ({example}): drift between them is not excluded."


def _arm(facts: Facts, arm: str) -> str:
    model, again, _ = arm.partition("__aa")
    return f"{facts.label(model)}{' again' if again else ''}"


def _control(facts: Facts) -> str:
    """The A/A control: the words of the verdict."""
    words = facts.verdict.get("words") or (facts.verdict.get("aa") or {}).get("words")
    return sentence(str(words)) if words else ""


def _lane(facts: Facts) -> str:
    lane = facts.measurement["lane"]
    if not lane["modes"]:
        return ""
    how = listing(MODE_WORDS.get(mode, mode) for mode in lane["modes"])
    sentence_ = f"Change of model: {how}"
    if lane["switches"]:
        times = f"median {seconds(lane['switch_s_median'])}, longest {seconds(lane['switch_s_max'])}"
        sentence_ += f"; {plural(lane['switches'], 'wake-up')}, {times}"
    notes = f" Notes: {'; '.join(lane['notes'])}." if lane["notes"] else ""
    return sentence(sentence_) + notes


def _shares(facts: Facts) -> list[str]:
    """How much of the time was measured: of the leases, and of the wall time, which has the gaps between jobs too."""
    share = facts.measurement["share"]
    if is_number(share["share"]):
        leases = (
            f"Of the {seconds(share['held_s'])} that leases held the lane after the servers were up, "
            f"{percent(share['share'])} ({seconds(share['measured_s'])}) lie inside measured blocks."
        )
    else:
        leases = "The share of lane time inside measured blocks is not known: no session recorded both times."
    return [leases, *(_wall(lane) for lane in facts.measurement.get("wall") or [] if is_number(lane["share"]))]


def _wall(lane: Json) -> str:
    pause = lane["longest_pause_s"]
    told = f"; the longest pause between two blocks was {seconds(pause)}" if is_number(pause) else ""
    return (
        f"Of the {seconds(lane['wall_s'])} of wall time from the start of the first block on lane `{lane['lane']}` "
        f"to the end of the last, {percent(lane['share'])} ({seconds(lane['measured_s'])}) do{told}."
    )


def _limits(facts: Facts) -> list[str]:
    """What limited the cells in which it was not the engine, each sentence once."""
    grouped: dict[str, list[str]] = {}
    for cell in facts.measurement["cells"]:
        if cell["bottleneck"] != "engine" and cell.get("bottleneck_sentence"):
            place = f"{cell['workload']} c={cell['concurrency']}, max_tokens={cell['max_tokens']}"
            grouped.setdefault(cell["bottleneck_sentence"], []).append(f"{_arm(facts, cell['model'])} in {place}")
    return [f"{said} Seen with {listing(places)}." for said, places in grouped.items()]


def _memory_back(facts: Facts) -> str:
    told = {facts.label(m): s.get("memory_returned") for m, s in facts.measurement["sessions"].items()}
    kept, back = ([label for label, returned in told.items() if returned is answer] for answer in (False, True))
    if kept:
        return f"After the stop the memory of {listing(kept)} did not come back."
    known = "every server" if len(back) == len(told) else listing(back)
    return f"After the stop the memory of {known} came back." if back else ""


def _client(facts: Facts) -> str:
    client = facts.measurement["client"]
    told = []
    if is_number(client["cpu_share_max"]):
        told.append(f"used at most {percent(client['cpu_share_max'])} of a core")
    if is_number(client["loop_lag_p99_ms_max"]):
        told.append(f"was late by at most {with_unit(client['loop_lag_p99_ms_max'], 'ms')} (p99 of its loop)")
    if is_number(client["concurrency_held_min"]):
        told.append(f"held at least {percent(client['concurrency_held_min'])} of the asked concurrency")
    return f"In any block the load client {listing(told)}." if told else ""


def _server(facts: Facts) -> str:
    server = facts.measurement["server"]
    told = []
    for key, noun, nouns in (
        ("prefix_cache_hits", "prefix-cache hit", "prefix-cache hits"),
        ("preemptions", "preemption", "preemptions"),
    ):
        if is_number(server[key]):
            told.append(plural(round(server[key]), noun, nouns))
    if not told:
        return "The servers told no counters (prefix-cache hits, preemptions)."
    tokens = ""
    if is_number(server["generation_tokens"]):
        tokens = (
            f"; they count {integer(server['generation_tokens'])} generated tokens, "
            f"the client {integer(server['client_tokens'])}"
        )
    return f"During the blocks the servers count {listing(told)}{tokens}."


def _precision(facts: Facts) -> str:
    plan = facts.verdict.get("precision") or {}
    if not plan.get("target") or not facts.rows:
        return ""
    kinds = {"missing": "missed by", "out_of_reach": "out of reach for"}
    kinds |= {"untested": "without a confidence interval for", "refused": "refused for"}
    told = [f"{words} {integer(len(plan[kind]))}" for kind, words in kinds.items() if plan.get(kind)]
    reached = f"reached by {plural(len(plan['reached']), 'comparison')}"
    sentence_ = f"Precision {percent(plan['target'])}: {', '.join([reached, *told])}"
    if not plan.get("extra_blocks"):
        return f"{sentence_}."
    line = command_line.text(command_line.with_value(facts.command, "extra_blocks", plan["extra_blocks"]))
    open_ = [entry for kind in ("missing", "refused") for entry in plan.get(kind) or [] if entry["blocks_more"]]
    if all(is_number(entry["half_width"]) for entry in open_):
        return f"{sentence_}. These blocks would reach it: `{line}`."
    return f"{sentence_}. These blocks come next; what has no interval yet may need more: `{line}`."


def calibration_table(facts: Facts) -> Table:
    """The client against the server of known timing, a row per concurrency."""
    entries = facts.measurement["calibration"]
    keys = [key for key in CALIBRATION if any(is_number(entry.get(key)) for entry in entries)]
    rows = [[integer(entry.get("concurrency")), *(number(entry.get(key)) for key in keys)] for entry in entries]
    caption = "The client measured against a server whose timing is known"
    return table(["concurrency", *(CALIBRATION[key] for key in keys)], rows if keys else [], caption=caption, words=())


def guard_table(facts: Facts) -> Table:
    """What every guard said: blocks that passed, failed, warned, could not tell."""
    rows, notes = [], []
    meanings = facts.config.get("reason_words") or {}
    for guard in facts.measurement["guards"]:
        counts = [integer(guard[status]) for status in ("ok", "fail", "warn", "unknown")]
        rows.append([f"`{guard['id']}`", *counts, str(meanings.get(guard["id"], ""))])
        if guard["details"]:
            notes.append(f"`{guard['id']}`: {'; '.join(guard['details'])}.")
    columns = ["guard", "ok", "fail", "warn", "unknown", "what it finds"]
    caption = "Guards: in how many blocks each check passed, failed, warned or could not tell"
    return table(columns, rows, caption=caption, notes=notes, words=(0, 5))


def _checks_sentence(facts: Facts) -> str:
    """How the guards beyond single blocks came out."""
    checks = facts.measurement.get("checks") or []
    if not checks:
        return ""
    unknown = sum(check["status"] == "unknown" for check in checks)
    passed = sum(check["status"] == "ok" for check in checks)
    return (
        f"Of {plural(len(checks), 'check')} of servers, of comparisons and of the whole run {integer(passed)} passed "
        f"and {integer(unknown)} could not tell{'; these did not pass:' if _checks(facts) else '.'}"
    )


def _checks(facts: Facts) -> list[str]:
    """Failed and warning guards of servers, comparisons and the run."""
    words = {"fail": "failed", "warn": "warns"}
    found = [check for check in facts.measurement.get("checks") or [] if check["status"] in words]
    places = ["the whole run" if check["of"] == "run" else facts.label(check["of"]) for check in found]
    return [
        sentence(f"{place}: `{check['id']}` {words[check['status']]}: {check['detail']}")
        for place, check in zip(places, found, strict=True)
    ]


def _invalid(facts: Facts) -> list[str]:
    """One line per arm and cell with refused blocks."""
    grouped: dict[tuple[str, str], dict[str, list[int]]] = {}
    for block in facts.measurement["blocks"]["invalid"]:
        cell = f"{block['workload']} c={block['concurrency']}, max_tokens={block['max_tokens']}"
        why = "; ".join([f"`{', '.join(block['reasons'])}`", *block["details"]])
        grouped.setdefault((_arm(facts, block["model"]), cell), {}).setdefault(why, []).append(block["block"])
    return [
        sentence(f"{arm}, {cell}, {'block' if len(numbers) == 1 else 'blocks'} {listing(map(str, numbers))}: {why}")
        for (arm, cell), reasons in grouped.items()
        for why, numbers in reasons.items()
    ]
