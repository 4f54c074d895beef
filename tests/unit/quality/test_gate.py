"""The gate on made-up outcomes: what must be condemned, what must not, and how often it is wrong."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from made_outcomes import FAILS, MARGINS, PASSES, SHIPPED, counted, drawn, likelihood, looping, suite
from msgspec.structs import replace
from quantbench.quality import gate, score
from quantbench.records.finding import finding
from quantbench.records.quality import Answer, CheckResult, Floor
from quantbench.records.suite import Answered, GateUse, GateVerdict, Outcome, SuiteScore
from quantbench.report.say import Speech

FINE, BAD, OPEN = "fine", "not acceptable", "insufficient evidence"


def judged(*scores: SuiteScore) -> dict[str, GateVerdict]:
    return {verdict.use: verdict for verdict in gate.verdicts(scores, MARGINS)}


def of(outcomes: Any, use: GateUse = "batch", **more: Any) -> GateVerdict:
    return judged(suite(outcomes, **more))[use]


def statuses(verdicts: dict[str, GateVerdict]) -> dict[str, str]:
    return {use: verdict.status for use, verdict in verdicts.items()}


@pytest.mark.parametrize(("outcomes", "chat", "batch"), [
    # the model against itself: never worse than open, and a yes where there is enough
    (counted(30), OPEN, OPEN),
    (counted(58), OPEN, OPEN),
    (counted(59), OPEN, FINE),
    (counted(148), OPEN, FINE),
    (counted(149), FINE, FINE),
    (counted(0), OPEN, OPEN),
    (counted(400, passed=0), OPEN, OPEN),
    # two lost and four gained is no degradation
    (counted(30, lost=2, gained=4), OPEN, OPEN),
    (counted(400, lost=2, gained=4), FINE, FINE),
    (counted(30, lost=3), OPEN, OPEN),
    # INT8 of a 135M that passes a third
    (counted(400, lost=8, gained=6, passed=133), OPEN, FINE),
    (counted(400, lost=18, gained=10, passed=133), OPEN, FINE),
    (counted(400, lost=26, gained=12, passed=133), OPEN, OPEN),
    # a small loss that is shown is not one that matters, and does not hide one that does
    (counted(3000, lost=35, gained=10), FINE, FINE),
    (counted(3000, lost=100, gained=20), BAD, FINE),
    (counted(3000, lost=200, gained=20), BAD, BAD),
    # of all items 4 points, of what the baseline passes a third
    (counted(1000, lost=50, gained=8, passed=130), BAD, BAD),
    (counted(1000, lost=11, gained=0, passed=60), BAD, BAD),
    # heavy damage, whatever the baseline passes
    (counted(30, lost=9, passed=9), BAD, BAD),
    (counted(400, lost=60, gained=3, passed=100), BAD, BAD),
    (counted(400, lost=400), BAD, BAD),
    (counted(30, lost=8, passed=8), BAD, BAD),
    (counted(6, lost=6), BAD, BAD),
    # a few prompts on an edge are no damage
    (counted(3, lost=2), OPEN, OPEN),
    (counted(5, lost=5), OPEN, OPEN),
    # few that pass: a yes would rest on nothing
    (counted(400, passed=18), OPEN, OPEN),
])  # fmt: skip
def test_what_the_counts_say(outcomes: list[Outcome], chat: str, batch: str) -> None:
    found = judged(suite(outcomes))
    assert (found["chat"].status, found["batch"].status) == (chat, batch)
    for verdict in found.values():
        assert verdict.because, "there is always a reason"
        assert Speech().all(verdict.because)
        assert verdict.needed is None or (verdict.status == OPEN and verdict.needed > verdict.n)


def test_every_use_is_there_and_counts_its_own_classes() -> None:
    every = [outcome for kind, n in SHIPPED.items() for outcome in counted(n, kind=kind)]
    found = judged(suite(every))
    assert set(found) == set(get_args(GateUse)) == {use.use for use in gate.USES}
    assert statuses(found) == dict.fromkeys(found, FINE), "the shipped numbers suffice for a yes on every use"
    assert {use: verdict.n for use, verdict in found.items()} == {
        "chat": 460, "batch": 460, "facts": 75, "reasoning": 70, "code": 60, "structured": 85, "summaries": 60,
        "languages": 60,
    }  # fmt: skip
    broken = [*counted(60, lost=40, kind="code"), *(o for o in every if o.kind != "code")]
    assert {use for use, word in statuses(judged(suite(broken))).items() if word == BAD} >= {"code", "chat"}
    assert judged(suite(broken))["facts"].status == FINE
    assert judged(suite(broken))["code"].lost[0] == "tasks/code0"


def test_margins_are_those_of_the_configuration() -> None:
    outcomes = counted(400, lost=8, gained=6)
    words = {margin: gate.verdicts([suite(outcomes)], {"default": margin})[0].status for margin in (0.02, 0.03)}
    assert words == {0.02: OPEN, 0.03: FINE}
    own = {verdict.use: verdict.margin for verdict in gate.verdicts([], {"default": 0.05, "code": 0.1})}
    assert (own["code"], own["facts"]) == (0.1, 0.05)
    assert (gate.least(0.05), gate.least(0.02)) == (59, 149)


@pytest.mark.parametrize("passes", [0.33, 0.8, 0.97])
def test_false_alarms_of_the_baseline_against_itself(passes: float) -> None:
    """BF16 against BF16, answers on an edge, through the whole gate: one use not acceptable is an alarm."""
    rng, runs = np.random.default_rng(5), 340
    half, thirty = ({kind: n // part for kind, n in SHIPPED.items()} for part in (2, 15))
    for kinds, edge in ((half, 0.1), (thirty, 0.4)):
        words = [statuses(judged(suite(drawn(rng, passes, edge=edge, kinds=kinds)))) for _ in range(runs)]
        alarms = sum(BAD in word.values() for word in words) / runs
        assert alarms <= 0.03, "of 5 % that are allowed"


def test_what_flips_by_itself_is_not_set_aside() -> None:
    """Setting aside what the baseline itself does otherwise would count more as lost than as gained."""
    rng, kept, set_aside = np.random.default_rng(2), 0, 0
    for _ in range(4000):
        chance = rng.beta(4, 1)
        first, again, own = rng.random(3) < chance
        kept += int(first) - int(own)
        set_aside += (int(first) - int(own)) * (first == again)
    assert abs(kept) < 3 * np.sqrt(4000 * 0.24)
    assert set_aside > 5 * np.sqrt(4000 * 0.08)


@pytest.mark.parametrize("passes", [0.33, 0.8])
def test_damage_is_seen_by_its_size(passes: float) -> None:
    rng = np.random.default_rng(9)

    def share(status: str, use: GateUse, damage: float, runs: int = 20) -> float:
        found = [of(drawn(rng, passes, damage=damage), use).status for _ in range(runs)]
        return found.count(status) / runs

    assert share(FINE, "batch", 0.0) >= 0.9
    assert share(FINE, "batch", 0.01) >= 0.8
    assert share(BAD, "batch", 0.01) <= 0.1
    assert share(FINE, "batch", 0.15) <= 0.05
    assert share(BAD, "batch", 0.3) == share(BAD, "chat", 0.3) == 1.0


def test_heavy_damage_is_never_fine_for_any_use() -> None:
    rng = np.random.default_rng(4)
    for passes in (0.1, 0.33, 0.9):
        for damage in (0.5, 0.8, 1.0):
            found = statuses(judged(suite(drawn(rng, passes, damage=damage))))
            assert FINE not in found.values()
            assert (found["chat"], found["batch"]) == (BAD, BAD)


# Hard failures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new", "old", "chat", "batch"), [
    (0, 0, FINE, FINE),
    (3, 3, FINE, FINE),
    (4, 0, OPEN, FINE),
    (20, 0, BAD, BAD),
    (40, 12, BAD, BAD),
    (0, 40, FINE, FINE),
])  # fmt: skip
def test_new_loops_condemn_although_the_baseline_failed_there(new: int, old: int, chat: str, batch: str) -> None:
    found = judged(suite(looping(400, new, old)))
    assert (found["chat"].status, found["batch"].status) == (chat, batch)
    assert len(found["batch"].new_hard) == new
    assert found["batch"].lost == ()


def test_loops_of_the_baseline_itself_are_its_floor() -> None:
    outcomes = [replace(o, again=(o.variant,)) for o in looping(400, 20)]
    assert of(outcomes).status != BAD


# Likelihoods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kl", "top1", "chat", "batch"), [
    (0.002, 0.975, FINE, FINE),
    (0.03, 0.95, FINE, FINE),
    (0.045, 0.93, OPEN, FINE),
    (0.05, 0.90, OPEN, FINE),
    (0.14, 0.88, OPEN, OPEN),
    (0.57, 0.70, BAD, BAD),
    (0.1, 0.80, BAD, BAD),
    (3.0, 0.10, BAD, BAD),
])  # fmt: skip
def test_likelihoods_lower_a_word(kl: float, top1: float, chat: str, batch: str) -> None:
    parts = suite(counted(400)), suite(suite="kl", kind="likelihood", likelihood=likelihood(kl, top1))
    found = judged(*parts)
    assert (found["chat"].status, found["batch"].status) == (chat, batch)


def test_likelihoods_never_raise_one() -> None:
    near = suite(suite="kl", kind="likelihood", likelihood=likelihood(0.0001, 0.999))
    rng = np.random.default_rng(8)
    order = [BAD, OPEN, FINE]
    for damage in (0.0, 0.1, 0.5):
        tasks = suite(drawn(rng, 0.6, damage=damage))
        alone, both = statuses(judged(tasks)), statuses(judged(tasks, near))
        assert alone == both
        far = statuses(judged(tasks, suite(suite="kl", kind="likelihood", likelihood=likelihood(0.1, 0.86))))
        assert all(order.index(far[use]) <= order.index(word) for use, word in alone.items())
    assert set(statuses(judged(near)).values()) == {OPEN}, "near alone is no yes"
    assert of(counted(400), likelihood=likelihood(0.14)).needed is None, "no number of items would raise it"


def test_a_floor_that_is_as_far_takes_the_limit_away() -> None:
    moved = {"likelihood": likelihood(0.2, 0.8), "likelihood_floor": likelihood(0.2, 0.8)}
    assert of(counted(400), **moved).status == FINE
    assert of(counted(400), **{**moved, "likelihood_floor": likelihood(0.002, 0.97)}).status == BAD


def test_a_distance_without_an_interval_counts_as_it_is() -> None:
    bare = likelihood(0.2, 0.8)
    bare = replace(bare, kl=replace(bare.kl, low=None, high=None))
    said = finding("gate.likelihood", form="kl", value=0.2, end=None, limit=0.15)
    assert of(counted(400), likelihood=bare).because[0] == said


def test_a_value_within_its_limit_is_told_with_the_end_of_the_interval_that_is_not() -> None:
    near = suite(suite="kl", kind="likelihood", likelihood=likelihood(0.045, 0.95))
    low = suite(suite="kl", kind="likelihood", likelihood=likelihood(0.002, 0.925))
    said = [judged(suite(counted(400)), one)["chat"].because[-1].values for one in (near, low)]
    assert [(one["form"], one["value"] > one["limit"]) for one in said] == [("kl", False), ("top1", True)]
    assert [one["end"] for one in said] == pytest.approx([0.045 * 1.15, 0.925 - 0.01])


# What does not count --------------------------------------------------------------------------------------------


def test_what_was_not_run_counts_on_neither_side() -> None:
    unknown = Answered(passed=None)
    half = [Outcome(id=f"x{i}", kind="code", baseline=PASSES, variant=unknown) for i in range(50)]
    half += [Outcome(id=f"y{i}", kind="code", baseline=unknown, variant=FAILS) for i in range(50)]
    assert of([*counted(100), *half]) == of(counted(100))
    assert of(half, "code").n == 0
    repeats = [replace(o, again=(unknown,)) for o in counted(100)]
    assert of(repeats).floor is None


def test_other_tokens_forbid_a_yes_but_not_a_no() -> None:
    other = [replace(o, id=f"o{i}", same_input=False) for i, o in enumerate(counted(9, lost=9))]
    found = of([*counted(200), *other])
    assert (found.status, found.n, found.needed) == (OPEN, 200, None)
    assert found.because == (finding("gate.other_tokens", n=9),)
    assert of([*counted(200, lost=80), *other]).status == BAD


def test_items_of_a_passage_count_for_less() -> None:
    alone = counted(64)
    together = [replace(o, cluster=f"p{i // 8}") for i, o in enumerate(alone)]
    assert of(alone).status == FINE
    found = of(together)
    assert found.status == OPEN
    assert found.needed is None or found.needed > 64
    two_suites = [suite([replace(o, cluster="p") for o in counted(40)], suite=name) for name in ("a", "b")]
    [chat, *_] = gate.verdicts(two_suites, MARGINS)
    assert chat.n == 80
    assert len({*judged(suite(counted(9, lost=9), suite="a"), suite(counted(9, lost=9), suite="b"))["chat"].lost}) == 18


# The floor ------------------------------------------------------------------------------------------------------


def test_a_loss_that_the_baseline_has_as_well_is_no_loss_of_the_variant() -> None:
    lost = counted(400, lost=60)
    assert of(lost).status == BAD
    as_well = [replace(o, again=(o.variant,)) for o in lost]
    found = of(as_well)
    assert (found.status, found.floor) == (OPEN, 0.15)
    noisy = [replace(o, again=(PASSES if i % 10 else FAILS,)) for i, o in enumerate(counted(200))]
    assert (of(noisy).smallest_loss or 0) > (of(counted(200)).smallest_loss or 0), "its flips hide a loss"


# From the prompts' own file -------------------------------------------------------------------------------------


def item(name: str, first: bool | None, second: bool | None, *, loop: bool = False) -> Any:
    """A prompt's two answers."""

    def side(ok: bool | None, hard: bool) -> Any:
        checks = [CheckResult(type="contains", ok=ok, detail="")]
        checks += [CheckResult(type="loop", ok=False, detail="", hard=True)] if hard else []
        answer = Answer(id=name, kind="fact", prompt="q", output="x", tokens=3, token_ids=(1,), finish_reason="length")
        return answer, checks

    return score.compare("fact", side(first, False), side(second, loop))


def test_the_prompts_are_a_suite() -> None:
    items = [item("a", True, False, loop=True), item("b", False, True), item("c", None, True), item("d", True, True)]
    floor = Floor(measured=True, answers=4, identical=2, identical_share=0.5, lost=("d",), gained=("b",))
    found = gate.prompts_suite(score.score(items, floor, baseline="bf16", variant="int8"))
    assert [(o.baseline.passed, o.variant.passed, o.variant.hard) for o in found.outcomes] == [
        (True, False, ("loop",)), (False, True, ()), (None, None, ()), (True, True, ()),
    ]  # fmt: skip
    assert [[again.passed for again in o.again] for o in found.outcomes] == [[True], [True], [None], [False]]
    assert all(o.baseline.cut for o in found.outcomes)
    chat = judged(found)["chat"]
    assert (chat.n, chat.passed, chat.lost, chat.gained, chat.new_hard) == (3, 2, ("a",), ("b",), ("a",))
    no_floor = replace(floor, measured=False)
    assert {o.again for o in gate.prompts_suite(score.score(items, no_floor, baseline="a", variant="b")).outcomes} == {
        ()
    }


def test_a_verdict_says_what_it_could_have_seen_and_what_would_decide() -> None:
    found = of(counted(400, lost=8, gained=6, passed=133), "chat")
    assert found.loss == pytest.approx(0.005)
    assert found.low is not None
    assert found.high is not None
    assert found.relative_high is not None
    assert found.low < 0.005 < found.high < 0.03
    assert found.relative == pytest.approx(2 / 139)
    assert 0.02 < (found.smallest_loss or 0) < 0.03
    assert found.needed is not None
    assert 600 < found.needed < 6000
    few = of(counted(20, kind="code"), "code")
    assert few.because == (finding("gate.few", n=20, passed=20, least=59, least_passed=19),)
    assert few.needed is not None
    assert of(counted(few.needed, kind="code"), "code").status == FINE
