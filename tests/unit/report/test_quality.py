from typing import Any

from quantbench.quality import score as scoring
from quantbench.quality.score import score
from quantbench.records.quality import Answer, CheckResult, Floor, Item, Lengths, Passed, QualityDetails
from quantbench.records.run import Run
from quantbench.records.server import Completion
from quantbench.report import quality, render
from quantbench.report.document import Table
from quantbench.report.say import Speech
from runs import but, ready, run
from runs import quality as pair

FLOOR = Floor(measured=True, answers=60, identical=60, identical_share=1.0)


def answer(id_: str, output: str) -> Answer:
    return Answer(id=id_, kind="fact", prompt=f"Say {id_}", output=output, tokens=1, token_ids=(len(output),))


def item(number: int, *, lost: bool = False, kind: str = "fact", note: str | None = None) -> Item:
    base, own = answer(f"p{number}", "yes"), answer(f"p{number}", "no" if lost else "yes")
    check = CheckResult(type="exact_number", ok=True, detail="last number 29, wanted 21")
    return scoring.compare(kind, (base, [check]), (own, [but(check, ok=not lost)]), note)


def scored(lost: int = 0, n: int = 60, floor: Floor = FLOOR, **changes: Any) -> QualityDetails:
    items = [item(i, lost=i < lost, kind="arithmetic" if i < 3 else "fact") for i in range(n)]
    return but(score(items, floor, baseline="bf16", variant="awq"), **changes)  # type: ignore[no-any-return]


def notes(found: QualityDetails | None) -> str:
    known = run(quality={"awq": found} if found else {})
    return render.page(quality.Page("", (), (quality.section(known, Speech.of(known)),)))


def answers(found: QualityDetails, **parts: Any) -> str:
    known = run(quality={"awq": found}, **parts)
    return render.page(quality.answers_page(known, Speech.of(known)))


def test_a_loss_is_named_with_its_prompts_its_classes_and_its_bound() -> None:
    text = notes(scored(lost=4))
    assert "**AWQ 4-bit: degraded**, net loss of 4 of 60 prompts." in text
    assert "Lost 4 of 60 prompts (`p0`, `p1`, `p2` and `p3`)" in text
    assert "at most 17 % (95 % confidence)" in text
    assert "arithmetic (0 instead of 3)" in text
    assert "| internal tools / batch jobs | **not acceptable** |" in text


def test_too_few_prompts_are_not_a_no() -> None:
    text = notes(scored(n=20))
    assert "| internal tools / batch jobs | ok |" in text
    assert "| user-facing chat |" not in text
    assert "Not shown for any model: user-facing chat, arithmetic and reasoning, code generation" in text
    assert "**not acceptable**" not in text


def test_nothing_is_claimed_where_nothing_was_asked_or_passed() -> None:
    assert "The answers were not compared in this run" in notes(None)
    none = scored(n=0)
    assert "nothing can be said" in notes(none)


def test_what_the_baseline_loses_itself_does_not_count() -> None:
    text = notes(scored(lost=1, floor=but(FLOOR, identical=58, lost=("p0",))))
    assert "58 of 60 cases and itself lost `p0`" in text
    assert "Lost 0 of 60 prompts" in text
    assert "was not asked twice" in notes(scored(floor=but(FLOOR, measured=False)))


def test_lengths_are_said_where_they_matter() -> None:
    def lengths(ratio: float, cut: int = 0) -> str:
        counts = Passed(baseline=0, variant=cut)
        return notes(
            scored(length=Lengths(baseline_tokens=1, variant_tokens=1, mean_ratio=ratio, cut_at_max_tokens=counts))
        )

    assert "on average" not in lengths(1.01)
    assert "12.0 % longer on average" in lengths(1.12)
    assert "12.0 % shorter on average" in lengths(0.88)
    assert "2 of its answers ran into the token limit" in lengths(1.0, cut=2)


def test_a_persons_notes_are_carried_over() -> None:
    assert "No person has annotated these answers yet" in notes(scored())
    noted = score([item(0, note="rude"), item(1)], FLOOR, baseline="bf16", variant="awq", notes=["dull"])
    assert "A person annotated 1 prompt." in notes(noted)
    assert "| rude |" in answers(noted)
    assert "A person on this model: dull" in answers(noted)


def test_answers_stand_verbatim_the_worse_ones_in_the_open() -> None:
    text = answers(scored(lost=1))
    shown = text.partition("What got worse, verbatim (1 prompt):")[2]
    assert "`p0` (arithmetic, worse): last number 29, wanted 21" in shown
    assert "```text\nno\n```" in shown
    assert "| `p0` | arithmetic | pass | fail: exact number | worse |" in text
    other = answers(score([but(item(0), identical=False)], FLOOR, baseline="bf16", variant="awq"))
    assert "<details><summary>Answers that differ without getting worse (1)" in other
    assert "No prompt got worse." in other


def test_the_test_completions_are_kept_without_any_pair() -> None:
    known = run(ready={"awq": ready("awq", test_completion=Completion(prompt="Hello", text=" `you`"))})
    text = render.page(quality.answers_page(known, Speech.of(known)))
    assert "Answers were not compared" in text
    assert "```text\nHello `you`\n```" in text


def test_every_variant_has_its_column_in_the_order_of_the_variants() -> None:
    known: Run = run(quality={"awq": pair()})
    table: Table = quality.use_table(known, Speech.of(known))
    assert table.columns == ("Good enough for", "AWQ 4-bit")
    assert table.rows == (("internal tools / batch jobs", "ok"), ("user-facing chat", "ok"))
