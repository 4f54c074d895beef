"""Codes, words and refusals of the verdict, on planted differences."""

from __future__ import annotations

import math
import random

import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from quantbench.judge.verdict import TESTED, build_verdict
from quantbench.records.block import LaneFacts
from quantbench.records.cell import Cell
from quantbench.records.comparison import InvalidBlock
from quantbench.records.metric import COMPARED, PER_GPU
from quantbench.report.say import Speech
from quantbench.report.verdict import worded

CELL = Cell.of("chat", 8, 128)
TYPICAL = {
    "throughput_tok_s": 1000, "p50_ttft_ms": 20, "p95_ttft_ms": 30, "p50_e2e_ms": 900, "p95_e2e_ms": 950,
    "p50_tpot_ms": 7, "j_per_token": 0.1,
}  # fmt: skip
EQUAL, FASTER = {"bf16": 1, "w8": 1.0}, {"bf16": 1, "w8": 1.2}


def run(speeds, blocks=6, sd=0.005, seed=0, order="abba", **planted):
    """Blocks of arms {model: speed} with noise, interleaved or arm by arm; planted: {model: {block: overrides}}."""
    rng, contexts, t = random.Random(seed), [], 0.0
    turns = [(m, n) for m in speeds for n in range(1, blocks + 1)]
    if order == "abba":
        turns = [(m, n) for n in range(1, blocks + 1) for m in (list(speeds) if n % 2 else list(speeds)[::-1])]
    for model, n in turns:
        t += 20
        faster = {"throughput_tok_s": speeds[model]}
        values = {m: v * faster.get(m, 1 / speeds[model]) * math.exp(rng.gauss(0, sd)) for m, v in TYPICAL.items()}
        more = dict(planted.get(model, {}).get(n, {}))
        metrics = values | more.pop("metrics", {})
        contexts.append(runs.block(model, CELL, n, started=t, lane=LaneFacts(), metrics=metrics, **more))
    return contexts


def verdict(contexts, **kwargs):
    return worded(Speech(), build_verdict(contexts, baseline="bf16", primary=runs.primary(CELL), **kwargs))


def row(found, metric="throughput_tok_s", variant="w8"):
    return next(r for r in found.rows if r.metric == metric and r.variant == variant)


@pytest.mark.parametrize(("speed", "code", "tok", "time", "energy"), [
    (1.2, "better", "higher throughput by 20.", "faster by 16.", "less energy by 16."),
    (0.8, "worse", "lower throughput by 20.", "slower by 25.", "more energy by 25."),
])  # fmt: skip
def test_direction_of_every_metric(speed, code, tok, time, energy):
    blocks = run({"bf16": 1, "w8": speed}, sd=0.001)
    assert [r.metric for r in verdict(blocks).rows] == list(COMPARED)
    for metric in COMPARED:  # each of them declared, as it has a test then
        found = worded(Speech(), build_verdict(blocks, baseline="bf16", primary=runs.primary(CELL, metric)))
        r = row(found, metric)
        assert (r.code, r.primary, sum(other.primary for other in found.rows)) == (code, True, 1)
        start = tok if r.metric == "throughput_tok_s" else energy if r.metric == "j_per_token" else time
        number = float(r.words.split(" by ")[1].split(" ")[0])
        assert r.words.startswith(start.split(" by ")[0])
        assert number == pytest.approx(float(start.split(" by ")[1]), abs=1.0)


def test_words_carry_the_interval_and_agree_with_the_figures():
    r = row(verdict(run({"bf16": 1, "w8": 1.1})))
    assert r.ratio == pytest.approx(r.variant_value / r.baseline_value)
    assert r.words == (
        f"higher throughput by {100 * (r.ratio - 1):.1f} % "
        f"[{100 * (r.ci_low - 1):.1f} %, {100 * (r.ci_high - 1):.1f} %]"
    )


@pytest.mark.parametrize(("contexts", "most", "code", "words"), [
    (run({"bf16": 1, "w8": 1.001}, sd=0.002), 40, "equivalent", ["equivalent within 2.0 %: "]),
    (run(EQUAL, sd=0.03, seed=3), 1000, "undecided", [
        "no significant difference: data allow ", " to ", "about ", " more blocks would resolve 2.0 %",
    ]),
    (run(EQUAL, sd=0.03, seed=3), 7, "undecided", ["more than 7 blocks in all would be needed to resolve 2.0 %"]),
    (run(EQUAL, sd=0.2, seed=3), 40, "undecided", ["more than 40 blocks in all would be needed to resolve 2.0 %"]),
    (run(FASTER, blocks=2), 40, "no_test", ["no test possible: a test needs at least 3 pairs of blocks: "]),
])  # fmt: skip
def test_what_is_not_shown_says_what_the_data_allow_and_what_would_help(contexts, most, code, words):
    found = verdict(contexts, target=0.02, planned_blocks=6, most_blocks=most)
    r = row(found)
    assert (r.code, r.margin) == (code, 0.02)
    assert all(part in r.words for part in words)
    assert r.words.startswith(words[0]) or "in all" in words[0]
    assert (found.precision.most_blocks, bool(found.precision.out_of_reach)) == (most, "in all" in words[0])
    if "about " in words:
        assert f"about {r.blocks_to_decide} more" in r.words
        assert found.precision.extra_blocks["chat/c8_t128"] > 0
    if code == "no_test":
        assert (r.ci_low, r.p_value) == (None, None)
        assert r.ratio == pytest.approx(1.2, abs=0.05)


def test_invalid_blocks_are_refused_and_three_valid_pairs_still_decide():
    def planted(*numbers):
        bad = {"valid": False, "reasons": ("nan_logits",), "metrics": {"throughput_tok_s": 1.0}}
        return row(verdict(run(FASTER, w8=dict.fromkeys(numbers, bad))))

    r = planted(1, 2, 4)
    assert (r.code, r.n_pairs, r.valid) == ("better", 3, True)
    assert r.reasons == ("nan_logits (w8 block 1)", "nan_logits (w8 block 2)", "nan_logits (w8 block 4)")
    assert r.invalid_blocks[0] == InvalidBlock(model="w8", block=1, guards=("nan_logits",))
    assert r.ratio == pytest.approx(1.2, abs=0.02)
    r = planted(1, 2, 3, 4)
    assert (r.code, r.valid, r.ratio, r.variant_value, r.ci_low) == ("invalid", False, None, None, None)
    assert "nan_logits (w8 block 1)" in r.words
    r = planted(*range(1, 7))
    assert {reason.partition(" ")[0] for reason in r.reasons} == {"nan_logits"}, "it was measured"


def test_a_failed_pair_guard_refuses_the_whole_variant_only():
    found = verdict(run({"bf16": 1, "w8": 1.2, "w4": 0.9}), pair_failures={"w8": ["tokenizer"]})
    assert {r.code for r in found.rows if r.variant == "w8"} == {"invalid"}
    assert (row(found).words, row(found).blockers) == ("not valid: tokenizer", ("tokenizer",))
    assert {r.code for r in found.rows if r.variant == "w4" and r.metric in TESTED} == {"worse"}


def test_blocks_that_were_not_measured_side_by_side_say_so():
    def placed(order="abba", **lanes):
        contexts = [replace(c, lane=LaneFacts(lane=lanes.get(c.model))) for c in run(FASTER, order=order)]
        r = row(verdict(contexts))
        return r.interleaved, r.reasons, r.words.partition("; ")[2]

    assert placed() == placed(bf16="gpu0", w8="gpu0") == (True, (), "")
    drift = "the blocks were not interleaved: drift is not excluded"
    assert placed("arms") == (False, (), drift)
    devices = "the models ran on different devices: what differs between these is part of the result"
    assert placed(bf16="gpu0", w8="gpu1") == (False, ("DIFFERENT_DEVICES",), devices)


CELLS = [Cell.of(workload, n, 128) for workload in ("batch", "chat") for n in (1, 8, 16, 32)]


def grid(speeds, seed=0, cells=CELLS, **kwargs):
    """The same in several cells, CELL (the primary one) among them; each with noise of its own."""
    return [
        replace(block, **cell.columns)
        for i, cell in enumerate(cells)
        for block in run(speeds, seed=100 * seed + i, **kwargs)
    ]


def test_the_primary_is_tested_as_it_is_and_each_question_is_a_family_over_the_cells_of_its_workload():
    found = verdict(grid({"bf16": 1, "w8": 1.02}, sd=0.01, seed=5))
    sizes = {(r.workload, r.metric, r.primary): r.family for r in found.rows if r.code != "described"}
    chat = {("chat", "throughput_tok_s", True): 1, ("chat", "throughput_tok_s", False): 3}
    tails = {(w, m, False): 4 for w in ("chat", "batch") for m in ("p95_ttft_ms", "p95_e2e_ms")}
    assert sizes == {**chat, ("batch", "throughput_tok_s", False): 4, **tails}
    batch = [r for r in found.rows if (r.workload, r.metric) == ("batch", "throughput_tok_s")]
    assert min(r.p_holm for r in batch) == pytest.approx(4 * min(r.p_value for r in batch))
    assert all((r.code in ("better", "worse")) <= (r.p_holm < 0.05) for r in batch)
    more = verdict([*grid({"bf16": 1, "w8": 1.02}, sd=0.01, seed=5), *grid({"w4": 0.9}, seed=9)])
    assert tuple(r for r in more.rows if r.variant == "w8") == found.rows, "variants do not correct each other"


def test_what_answers_no_question_is_described_without_a_test():
    r = row(verdict(run(FASTER)), "p50_tpot_ms")
    assert (r.code, r.decided, r.p_value, r.p_holm, r.p_equivalence, r.likely) == ("described", False, *[None] * 4)
    assert (r.has_ci, r.excludes_one) == (True, True)
    assert r.words.endswith(", not tested")
    few = row(verdict(run(FASTER, blocks=2)), "p50_tpot_ms")
    assert (few.code, few.ci_low) == ("no_test", None)


def test_cells_of_a_metric_share_what_they_tell_of_its_scatter():
    blocks = grid(FASTER, blocks=4, sd=0.01)
    together, alone = verdict(blocks).rows, verdict([b for b in blocks if b.cell == CELL]).rows
    for own in alone:
        r = next(r for r in together if (r.cell, r.metric) == (own.cell, own.metric))
        assert (r.ratio, own.df) == (own.ratio, 3)
        assert 3 < r.df <= 6
        assert r.sd >= own.sd * (1 - 1e-9), "a variance is never lowered"
        assert r.df == pytest.approx(next(e.df for e in together if e.cell == r.cell and e.metric == r.metric))


def test_what_is_significant_only_alone_says_so():
    for seed in range(200):
        found = verdict(grid({"bf16": 1, "w8": 1.02}, sd=0.015, seed=seed))
        hit = [r for r in found.rows if r.code == "undecided" and r.p_value < 0.05 and not r.within_margin]
        if hit:
            assert "after correction for " in hit[0].words
            assert [r.likely for r in hit] == ["gain"] * len(hit)
            assert not any(r.likely for r in found.rows if r not in hit and r.code != "undecided")
            return
    pytest.fail("no such row in 200 runs")


def test_short_blocks_get_a_pooled_p95_and_without_requests_a_reason():
    rng, speeds = random.Random(1), {"bf16": 1, "w8": 1.5}
    blank = {n: {"metrics": {"p95_ttft_ms": None, "p95_e2e_ms": None}} for n in range(1, 5)}
    samples = {
        (m, CELL, n): {"ttft_ms": [20 / speed * rng.lognormvariate(0, 0.1) for _ in range(25)]}
        for m, speed in speeds.items()
        for n in range(1, 5)
    }
    found = verdict(run(speeds, blocks=4, bf16=blank, w8=blank), samples=samples)
    ttft, e2e = row(found, "p95_ttft_ms"), row(found, "p95_e2e_ms")
    assert (ttft.code, ttft.ci_low < 1 / 1.5 < ttft.ci_high, ttft.reasons) == ("better", True, ("P95_POOLED",))
    assert (e2e.code, e2e.ratio, e2e.reasons) == ("no_test", None, ("P95_NEEDS_N72",))
    assert e2e.words == "no test possible: a p95 needs at least 72 requests; longer blocks give them"


@pytest.mark.parametrize(("speeds", "blocks", "present", "trusted", "words"), [
    ({"bf16": 1, "bf16__aa": 1, "w8": 1.2}, 6, True, True, "it resolves ±"),
    ({"bf16": 1, "bf16__aa": 1.4, "w8": 1.2}, 6, True, False, "not to be trusted"),
    ({"bf16": 1, "w8": 1.2}, 6, False, True, "not known"),
    ({"bf16": 1, "bf16__aa": 1}, 2, True, True, "too few blocks"),
])  # fmt: skip
def test_the_aa_control_is_the_resolution_and_condemns_the_run_where_it_differs(
    speeds, blocks, present, trusted, words
):
    found = verdict(run(speeds, blocks, sd=0.03, seed=1))
    width = found.aa.half_width("throughput_tok_s")
    assert (found.aa.present, found.trusted) == (present, trusted)
    assert words in found.words
    assert {r.variant for r in found.rows} == set(speeds) & {"w8"}
    assert (width is not None) == (present and blocks > 2)
    if width:
        assert (found.aa.cell, row(found).margin) == ("chat/c8_t128", 0.02)
        assert width > 0.02
    if not trusted:
        assert found.aa.different[0] == "throughput_tok_s"


def test_a_noisy_aa_control_widens_no_margin():
    """Six noisy blocks of the control are its own resolution; what is equivalent is the user's margin to say."""
    noisy = run({"bf16": 1, "bf16__aa": 1, "w8": 1.0}, sd=0.2, seed=1)
    control = [c for c in noisy if c.model == "bf16__aa"]
    for variant, code in ((run(EQUAL, sd=0.003, seed=2), "equivalent"), (run(EQUAL, sd=0.05, seed=3), "undecided")):
        found = verdict([*control, *variant])
        assert found.aa.half_width("throughput_tok_s") > 0.1
        assert (row(found).code, row(found).margin) == (code, 0.02)


def test_drift_of_the_baseline_is_flagged():
    rising = {n: {"metrics": {"throughput_tok_s": 1000 * (1 + 0.01 * n)}} for n in range(1, 7)}
    [drift] = verdict(run(FASTER, bf16=rising)).drift
    assert (drift.flagged, drift.percent) == (True, pytest.approx(5, abs=0.5))
    assert verdict(run(FASTER)).drift[0].flagged is False


def test_after_the_planned_blocks_the_first_ones_keep_the_interval_honest():
    """Blocks beyond `planned_blocks` narrow it by their number only, not by a smaller scatter of theirs."""
    contexts = run(FASTER, blocks=20, sd=0.02, seed=2)
    early = verdict([c for c in contexts if c.block <= 6]).rows
    late, plain = (verdict(contexts, planned_blocks=n).rows for n in (6, None))
    widths = [[math.log(r.ci_high / r.ci_low) for r in rows] for rows in (early, late, plain)]
    for before, after, naive in zip(*widths, strict=True):
        assert after >= naive * (1 - 1e-9)
        assert after >= before * math.sqrt(6 / 20) * (1 - 1e-9)
    assert widths[1] != widths[2]


def beyond_the_plan(how, planned=6):
    """Blocks of a session of 12, of which those beyond the plan came as `how` says, by number."""
    contexts = run(FASTER, blocks=12, sd=0.02, seed=2)
    return [replace(c, beyond=how(c.block)) if c.block > planned else c for c in contexts]


def test_how_further_blocks_came_makes_the_rule_and_not_todays_budget():
    def rows(how, **command):
        return [replace(r, words="") for r in verdict(beyond_the_plan(how), planned_blocks=6, **command).rows]

    plain, refine = {"until_decided": True}, {"until_decided": False}
    alike, stein = (rows(lambda _: None, **command) for command in (plain, refine))
    assert alike != stein
    assert {row.first for row in alike} == {None}
    assert {row.first for row in stein} == {6}
    for how, rule in (
        (lambda _: "round", alike),
        (lambda _: "extra", stein),
        (lambda n: "round" if n < 9 else "extra", stein),
    ):
        assert rows(how, **plain) == rows(how, **refine) == rule


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.floats(0.7, 1.4), st.floats(0.0005, 0.05))
def test_codes_words_and_figures_never_contradict_each_other(seed, blocks, speed, sd):
    for r in verdict(run({"bf16": 1, "w8": speed}, blocks=blocks, sd=sd, seed=seed)).rows:
        higher = r.metric == "throughput_tok_s"
        if r.code in ("better", "worse"):
            assert not r.ci_low <= 1 <= r.ci_high
            assert (r.code == "better") == ((r.ratio > 1) == higher)
        if r.code == "equivalent":
            assert 1 / (1 + r.margin) < r.ratio < 1 + r.margin
        if blocks < 3:
            assert (r.code, r.ci_low) == ("no_test", None)
        assert all(x is None or math.isfinite(x) for x in r.as_dict().values() if isinstance(x, float))
        assert r.words


def test_of_models_on_several_numbers_of_gpus_throughput_is_compared_per_gpu_too():
    blocks = run({"bf16": 1, "w8": 1.1}, sd=0.003)
    plain, found = verdict(blocks), verdict(blocks, gpus={"bf16": 2, "w8": 1})
    assert {r.metric for r in plain.rows} == set(COMPARED)
    total, each = row(found), row(found, PER_GPU)
    for end in ("ratio", "ci_low", "ci_high"):
        assert getattr(each, end) == pytest.approx(2 * getattr(total, end)), "a constant factor, of the same pairs"
    assert (each.code, each.n_pairs, each.baseline_value) == ("better", 6, pytest.approx(total.baseline_value / 2))
    assert each.variant_value == pytest.approx(total.variant_value)
    assert each.words.startswith("higher throughput by 119 %")
    slower = verdict(run({"bf16": 1, "w8": 0.5}, sd=0.001), gpus={"bf16": 2, "w8": 1})
    assert (row(slower).code, row(slower, PER_GPU).code) == ("worse", "equivalent")
    assert verdict(blocks, gpus={"bf16": 2, "w8": 2}).rows == plain.rows
    declared = build_verdict(blocks, baseline="bf16", primary=runs.primary(CELL, PER_GPU), gpus={"bf16": 2, "w8": 1})
    assert row(declared, PER_GPU).primary
