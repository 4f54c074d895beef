"""Codes, words and refusals of the verdict, on planted differences."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from quantbench.judge.verdict import build_verdict
from quantbench.records.block import BlockContext, ClientFacts, LaneFacts, ServerFacts, Telemetry
from quantbench.records.cell import Cell
from quantbench.records.comparison import InvalidBlock, Primary
from quantbench.records.metric import COMPARED
from quantbench.report.say import Speech
from quantbench.report.verdict import worded

CELL = Cell.of("chat", 8, 128)
PRIMARY = Primary(**CELL.columns, metric="throughput_tok_s")


def context(model, n, t, speed=1.0, noise=None, valid=True, reasons=(), cell=CELL, **metrics):
    """A block whose speed is `speed` times the baseline's, apart from noise."""
    e = noise or (lambda: 0.0)
    values = {
        "throughput_tok_s": 1000 * speed * math.exp(e()),
        "p50_ttft_ms": 20 / speed * math.exp(e()),
        "p95_ttft_ms": 30 / speed * math.exp(e()),
        "p50_e2e_ms": 900 / speed * math.exp(e()),
        "p95_e2e_ms": 950 / speed * math.exp(e()),
        "p50_tpot_ms": 7 / speed * math.exp(e()),
        "j_per_token": 0.1 / speed * math.exp(e()),
    }
    return BlockContext(
        gpu="g", model=model, style="interactive", **cell.columns, block=n, min_seconds=1, started_at="",
        started_unix=t, duration_s=1.0, client=ClientFacts(), metrics=values | metrics, telemetry=Telemetry(),
        server=ServerFacts(), lane=LaneFacts(), valid=valid, reasons=reasons,
    )  # fmt: skip


def run(speeds, blocks=6, sd=0.005, seed=0, order="abba", cell=CELL, **planted):
    """Block contexts of arms {model: speed}, interleaved or arm by arm; planted: {model: {block: overrides}}."""
    rng, contexts, t = random.Random(seed), [], 0.0
    turns = [(m, n) for m in speeds for n in range(1, blocks + 1)]
    if order == "abba":
        turns = [(m, n) for n in range(1, blocks + 1) for m in (list(speeds) if n % 2 else list(speeds)[::-1])]
    for model, n in turns:
        t += 20
        more = planted.get(model, {}).get(n, {})
        contexts.append(context(model, n, t, speeds[model], lambda: rng.gauss(0, sd), cell=cell, **more))
    return contexts


def verdict(contexts, **kwargs):
    return worded(Speech(), build_verdict(contexts, baseline="bf16", primary=PRIMARY, **kwargs))


def row(found, metric="throughput_tok_s", variant="w8"):
    return next(r for r in found.rows if r.metric == metric and r.variant == variant)


def test_every_metric_is_compared_and_one_is_primary():
    found = verdict(run({"bf16": 1, "w8": 1.2}))
    assert [r.metric for r in found.rows] == list(COMPARED)
    assert [r.primary for r in found.rows] == [True] + [False] * 6


@pytest.mark.parametrize(("speed", "code", "tok", "time", "energy"), [
    (1.2, "better", "higher throughput by 20.", "faster by 16.", "less energy by 16."),
    (0.8, "worse", "lower throughput by 20.", "slower by 25.", "more energy by 25."),
])  # fmt: skip
def test_direction_of_every_metric(speed, code, tok, time, energy):
    found = verdict(run({"bf16": 1, "w8": speed}, sd=0.001))
    assert {r.code for r in found.rows} == {code}
    for r in found.rows:
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


def test_equivalent_within_the_margin():
    r = row(verdict(run({"bf16": 1, "w8": 1.001}, sd=0.002)))
    assert r.code == "equivalent"
    assert r.words.startswith("equivalent within 2.0 %: ")


def test_undecided_says_what_the_data_allow_and_how_many_blocks_would_help():
    r = row(verdict(run({"bf16": 1, "w8": 1.0}, sd=0.03, seed=3)))
    assert r.code == "undecided"
    assert "no significant difference: data allow " in r.words
    assert " to " in r.words
    assert f"about {r.blocks_to_decide} more blocks would resolve 2.0 %" in r.words


def test_two_pairs_show_values_and_no_test():
    r = row(verdict(run({"bf16": 1, "w8": 1.2}, blocks=2)))
    assert (r.code, r.ci_low, r.p_value) == ("no_test", None, None)
    assert r.ratio == pytest.approx(1.2, abs=0.05)
    assert r.words.startswith("no test possible (2 pairs of blocks, a test needs 3): ")


def test_invalid_blocks_are_refused_and_the_rest_still_decides():
    bad = {2: {"valid": False, "reasons": ("failed_requests",), "throughput_tok_s": 1.0}}
    r = row(verdict(run({"bf16": 1, "w8": 1.2}, w8=bad)))
    assert (r.code, r.n_pairs, r.valid) == ("better", 5, True)
    assert r.reasons == ("failed_requests (w8 block 2)",)
    assert r.invalid_blocks == (InvalidBlock(model="w8", block=2, guards=("failed_requests",)),)
    assert r.ratio == pytest.approx(1.2, abs=0.02)


def test_with_fewer_than_three_valid_pairs_there_is_no_figure():
    bad = {n: {"valid": False, "reasons": ("nan_logits",)} for n in (1, 2, 3, 4)}
    r = row(verdict(run({"bf16": 1, "w8": 1.2}, w8=bad)))
    assert (r.code, r.valid, r.ratio, r.variant_value, r.ci_low) == ("invalid", False, None, None, None)
    assert "nan_logits (w8 block 1)" in r.words


def test_a_failed_pair_guard_refuses_the_whole_variant_only():
    found = verdict(run({"bf16": 1, "w8": 1.2, "w4": 0.9}), pair_failures={"w8": ["tokenizer"]})
    assert {r.code for r in found.rows if r.variant == "w8"} == {"invalid"}
    assert (row(found).words, row(found).blockers) == ("not valid: tokenizer", ("tokenizer",))
    assert {r.code for r in found.rows if r.variant == "w4"} == {"worse"}


def test_arm_by_arm_is_seen_in_the_times_and_said():
    apart = row(verdict(run({"bf16": 1, "w8": 1.2}, order="arms")))
    assert not apart.interleaved
    assert apart.words.endswith("the blocks were not interleaved: drift is not excluded")
    beside = row(verdict(run({"bf16": 1, "w8": 1.2})))
    assert beside.interleaved
    assert "interleaved" not in beside.words


def test_models_on_different_devices_are_not_interleaved_and_the_words_say_why():
    contexts = run({"bf16": 1, "w8": 1.2})
    lanes = {"bf16": "gpu0", "w8": "gpu1"}
    r = row(verdict([replace(c, lane=LaneFacts(lane=lanes[c.model])) for c in contexts]))
    assert (r.interleaved, r.reasons) == (False, ("DIFFERENT_DEVICES",))
    assert r.words.endswith("; the models ran on different devices: what differs between these is part of the result")
    together = row(verdict([replace(c, lane=LaneFacts(lane="gpu0")) for c in contexts]))
    assert (together.interleaved, together.reasons) == (True, ())


def test_the_primary_is_tested_as_it_is_and_the_rest_as_a_family():
    found = verdict(run({"bf16": 1, "w8": 1.02}, sd=0.01, seed=5))
    primary, rest = found.rows[0], found.rows[1:]
    assert primary.p_holm is None
    assert sorted(r.p_holm for r in rest)[0] == pytest.approx(6 * min(r.p_value for r in rest))
    for r in rest:
        assert (r.code in ("better", "worse")) <= (r.p_holm < 0.05)


def test_what_is_significant_only_alone_says_so():
    for seed in range(200):
        found = verdict(run({"bf16": 1, "w8": 1.02}, sd=0.01, seed=seed))
        hit = [r for r in found.rows if r.code == "undecided" and r.p_value < 0.05]
        if hit:
            assert "after correction for 6 comparisons" in hit[0].words
            assert [r.likely for r in hit] == ["gain"] * len(hit)
            assert not any(r.likely for r in found.rows if r not in hit)
            return
    pytest.fail("no such row in 200 runs")


def test_another_variant_does_not_change_the_verdict_on_the_first():
    two = verdict(run({"bf16": 1, "w8": 1.02}, sd=0.01))
    three = verdict([*run({"bf16": 1, "w8": 1.02}, sd=0.01), *run({"w4": 0.9}, seed=9)])
    keep = [(r.metric, r.code, r.p_holm) for r in three.rows if r.variant == "w8"]
    assert keep == [(r.metric, r.code, r.p_holm) for r in two.rows]


def test_short_blocks_get_a_pooled_p95_and_without_requests_a_reason():
    rng = random.Random(1)
    speeds = {"bf16": 1, "w8": 1.5}
    blank = {n: {"p95_ttft_ms": None, "p95_e2e_ms": None} for n in range(1, 5)}
    contexts = run(speeds, blocks=4, bf16=blank, w8=blank)
    samples = {
        (m, CELL, n): {
            "ttft_ms": [20 / speed * rng.lognormvariate(0, 0.1) for _ in range(25)],
        }
        for m, speed in speeds.items()
        for n in range(1, 5)
    }
    found = verdict(contexts, samples=samples)
    ttft, e2e = row(found, "p95_ttft_ms"), row(found, "p95_e2e_ms")
    assert ttft.code == "better"
    assert ttft.ci_low < 1 / 1.5 < ttft.ci_high
    assert "P95_POOLED" in ttft.reasons
    assert (e2e.code, e2e.ratio, e2e.reasons) == ("no_test", None, ("P95_NEEDS_N72",))
    assert e2e.words == "no test possible: a 95th percentile needs 72 requests per arm"


def test_the_aa_control_is_the_resolution_and_widens_the_margin():
    found = verdict(run({"bf16": 1, "bf16__aa": 1, "w8": 1.2}, sd=0.03, seed=1))
    aa = found.aa
    assert (aa.present, aa.cell, found.trusted) == (True, "chat/c8_t128", True)
    assert aa.half_width("throughput_tok_s") > 0.02
    assert row(found).margin == aa.half_width("throughput_tok_s")
    assert {r.variant for r in found.rows} == {"w8"}
    assert "it resolves ±" in found.words


def test_within_a_margin_that_the_aa_control_made_coarse_nothing_is_called_equivalent():
    contexts = run({"bf16": 1, "bf16__aa": 1, "w8": 1.0}, sd=0.2, seed=1)
    contexts = [c for c in contexts if c.model == "bf16__aa"] + run({"bf16": 1, "w8": 1.0}, sd=0.01, seed=2)
    found = verdict(contexts)
    r = row(found)
    assert r.margin == found.aa.half_width("throughput_tok_s") > 0.1
    assert r.code == "undecided"
    assert (r.coarse, r.alike) == (True, True)
    assert r.words.startswith("cannot be told apart: data allow ")
    assert "resolves ±" in r.words
    own = row(verdict(contexts, margin=0.5))
    assert (own.code, own.margin) == ("equivalent", 0.5), "a margin of the user's own stands"


def test_words_name_the_most_blocks_where_more_would_be_needed():
    r = row(verdict(run({"bf16": 1, "w8": 1.0}, sd=0.2, seed=3)))
    assert (r.code, r.margin) == ("undecided", 0.02)
    assert "more than 40 blocks in all would be needed to resolve 2.0 %" in r.words


def test_the_most_blocks_are_those_of_the_config_in_words_and_lists():
    contexts = run({"bf16": 1, "w8": 1.0}, sd=0.03, seed=3)
    few, many = (verdict(contexts, target=0.02, planned_blocks=6, most_blocks=most) for most in (7, 1000))
    assert "more than 7 blocks in all would be needed" in row(few).words
    assert "more blocks would resolve 2.0 %" in row(many).words
    assert (few.precision.most_blocks, many.precision.most_blocks) == (7, 1000)
    assert few.precision.out_of_reach
    assert not many.precision.out_of_reach


def test_an_aa_control_that_differs_condemns_the_run():
    found = verdict(run({"bf16": 1, "bf16__aa": 1.1, "w8": 1.2}))
    assert found.aa.different[0] == "throughput_tok_s"
    assert found.trusted is False
    assert "not to be trusted" in found.words


def test_without_or_with_too_small_an_aa_control_the_resolution_is_unknown():
    absent = verdict(run({"bf16": 1, "w8": 1.2}))
    assert absent.aa.present is False
    assert "not known" in absent.words
    small = verdict(run({"bf16": 1, "bf16__aa": 1}, blocks=2))
    assert small.aa.metrics["throughput_tok_s"].different is None
    assert "too few blocks" in small.words
    assert small.rows == ()


def test_drift_of_the_baseline_is_flagged():
    rising = {n: {"throughput_tok_s": 1000 * (1 + 0.01 * n)} for n in range(1, 7)}
    found = verdict(run({"bf16": 1, "w8": 1.2}, bf16=rising)).drift
    assert [d.flagged for d in found] == [True]
    assert found[0].percent == pytest.approx(5, abs=0.5)
    assert verdict(run({"bf16": 1, "w8": 1.2})).drift[0].flagged is False


def test_precision_names_the_blocks_to_add():
    found = verdict(run({"bf16": 1, "w8": 1.2}, sd=0.02, seed=2), target=0.01, planned_blocks=6).precision
    assert found.missing
    assert found.extra_blocks["chat/c8_t128"] > 0


def test_after_the_planned_blocks_the_first_ones_keep_the_interval_honest():
    """One addition of blocks reaches the precision, and the interval is that of the first blocks' scatter."""
    contexts = run({"bf16": 1, "w8": 1.2}, blocks=20, sd=0.02, seed=2)
    early = verdict([c for c in contexts if c.block <= 6], target=0.02, planned_blocks=6)
    needed = {e.metric: e.blocks_more for e in early.precision.missing}
    added = [c for c in contexts if c.block <= 6 + max(needed.values())]
    late, plain = (verdict(added, target=0.02, planned_blocks=n) for n in (6, None))
    assert needed
    for before, after, naive in zip(early.rows, late.rows, plain.rows, strict=True):
        widths = [math.log(r.ci_high / r.ci_low) for r in (before, after, naive)]
        assert widths[1] >= widths[2] * (1 - 1e-9)
        assert widths[1] >= widths[0] * math.sqrt(6 / after.n_pairs) * (1 - 1e-9)


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


def test_a_refused_comparison_gives_the_refusal_and_nothing_else_as_reason():
    contexts = [replace(c, valid=False, reasons=("hot",)) if c.model == "w8" else c for c in run({"bf16": 1, "w8": 1})]
    refused = row(verdict(contexts))
    assert refused.code == "invalid"
    assert {reason.partition(" ")[0] for reason in refused.reasons} == {"hot"}, "it was measured"
