from quantbench.records.run import Run
from quantbench.records.server import Completion, Memory, Quantization, Settings, Startup
from quantbench.records.tables import StartupRow
from quantbench.report import memory
from quantbench.report.document import Bullets, Paragraph, Table
from quantbench.report.say import Speech
from runs import but, plan, ready, run
from runs import memory as memory_row


def section_text(run: Run) -> str:
    parts = memory.section(run, Speech.of(run)).parts
    lists = (item for part in parts if isinstance(part, Bullets) for item in part.items)
    return "\n".join([*(part.text for part in parts if isinstance(part, Paragraph)), *lists])


def ids(run: Run) -> list[str]:
    assert all(map(Speech.of(run), memory.surprises(run)))
    return [found.id for found in memory.surprises(run)]


def served(**awq: object) -> Run:
    return run(ready={"bf16": ready("bf16"), "awq": ready("awq", **awq)})


def test_what_vllm_sees_is_said_with_what_it_is_reckoned_of() -> None:
    seen = Quantization(claimed="awq", method="awq_marlin", label="W4A16", kernel="Marlin", bits_per_weight=4.4)
    assert "`made/awq`, which vLLM sees as `awq_marlin`, W4A16" in section_text(served(quantization=seen))
    assert "By its files" not in section_text(served(quantization=seen))
    assert "By its files" in section_text(served(quantization=but(seen, bits_source="checkpoint")))
    assert "By its weight memory" in section_text(served(quantization=but(seen, bits_source="memory")))
    assert "names no kernel" in section_text(served(quantization=but(seen, kernel=None)))
    assert "names no quantization" in section_text(served())


def test_a_model_without_a_record_is_named_and_nothing_is_said_of_it() -> None:
    text = section_text(run(ready={"bf16": ready("bf16")}))
    assert "**AWQ 4-bit** has no `ready.json`" in text
    assert "Start-up times are not known" in text


def test_files_stand_for_weights_only_where_the_weights_are_not_known() -> None:
    row = memory_row("awq", weights_reduction_pct=60.0, checkpoint_reduction_pct=62.0)
    assert "60.0 % less in weights" in section_text(run(memory=[memory_row("bf16"), row]))
    files = section_text(run(memory=[memory_row("bf16"), but(row, weights_reduction_pct=None)]))
    assert "62.0 % less on disk" in files
    assert "in weights" not in files


def nvml(base: float, own: float) -> Run:
    deltas = {"bf16": base, "awq": own}
    return run(memory=[memory_row(m, vram_source="nvml", vram_delta_mib=delta) for m, delta in deltas.items()])


def test_nvml_is_called_equal_only_where_it_is() -> None:
    assert "about equal" in section_text(nvml(10_000, 9_600))
    assert "did not fill the same share" in section_text(nvml(10_000, 9_000))
    assert "not known for all models" in section_text(run())


def test_resident_memory_before_a_start_and_after_a_stop_is_no_figure() -> None:
    rss = {"vram_source": "rss", "vram_before_mib": 0.0, "vram_after_mib": 1400.0, "after_stop_mib": 0.0}
    table = memory.memory_table(run(memory=[memory_row(m, **rss) for m in ("bf16", "awq")]), Speech())
    assert [row[0] for row in table.rows] == ["RSS after start (MiB)"]


def test_blanks_have_a_reason_and_what_no_model_has_is_left_out() -> None:
    lacking = Memory(missing={"weights_gib": "not found: looked for “loading took”"})
    known = run(
        memory=[memory_row("bf16", weights_gib=3.0), memory_row("awq")],
        ready={"bf16": ready("bf16"), "awq": ready("awq", memory=lacking)},
    )
    table = memory.memory_table(known, Speech.of(known))
    assert table.rows == (("Weights (GiB)", "3.00", "–"),)
    assert table.notes[0] == "Blank: weights of AWQ 4-bit (not found: looked for “loading took”)."
    assert "KV cache" in table.notes[1]


def started(own: Startup, base: Startup) -> Run:
    return run(ready={"bf16": ready("bf16", startup=base), "awq": ready("awq", startup=own)})


def test_starts_are_compared_as_observations_and_their_caches_told_apart() -> None:
    cold, warm = Startup(total_s=100.0, compile_cache="cold"), Startup(total_s=60.0, compile_cache="warm")
    text = section_text(started(warm, cold))
    assert "AWQ 4-bit 40.0 % less; one start each, so this is an observation" in text
    assert "its compile cache was warm, the baseline's cold" in text
    assert ids(started(warm, cold)) == ["startup.fast"]
    assert ids(started(cold, warm)) == ["startup.slow"]
    assert "(compile cache cold)" in section_text(started(but(cold, total_s=101.0), cold))


def test_phases_that_explain_little_of_a_start_are_said_to() -> None:
    start = Startup(total_s=100.0, weights_s=1.0, compile_s=30.0, engine_init_s=40.0)  # compiling lies within
    assert "the log times" not in section_text(started(but(start, weights_s=20.0), start))
    assert "at most 41 % of a start" in section_text(started(start, start))


def rounds(model: str, cache: str, total: float) -> StartupRow:
    row = StartupRow(model=model, label=model, source="startup_rounds", compile_cache=cache, starts=2, total_s=total)
    return row


def test_a_warm_compile_cache_saves_what_was_measured() -> None:
    text = section_text(run(startup=[rounds("awq", "cold", 80.0), rounds("awq", "warm", 60.0)]))
    assert "AWQ 4-bit answers after 60.0 s instead of 80.0 s (25.0 % less; 2 starts each)" in text
    assert "there is no cache" in section_text(run(startup=[rounds("awq", "off", 60.0)]))


def test_surprises_are_small_savings_another_share_and_other_settings() -> None:
    row = memory_row("awq", quantization="W4A16", weights_reduction_pct=60.0)
    assert ids(run(memory=[memory_row("bf16"), row])) == ["memory.few_saved"]
    assert ids(run(memory=[memory_row("bf16"), but(row, weights_reduction_pct=-1.0)])) == ["memory.none_saved"]
    assert ids(run(memory=[memory_row("bf16"), but(row, weights_reduction_pct=66.0)])) == []
    other = but(row, weights_reduction_pct=70.0, vram_source="nvml", vram_delta_reduction_pct=-8.0)
    assert ids(run(memory=[memory_row("bf16"), other])) == ["memory.other_share"]
    setting = served(settings=Settings(enforce_eager=True, missing={"dtype": "why"}, inherited_env={"A": "b"}))
    assert [found.values["key"] for found in memory.surprises(setting)] == ["enforce_eager"]
    assert "AWQ 4-bit: `enforce_eager` is on, the baseline's is –." in Speech.of(setting).all(memory.surprises(setting))
    assert "No surprises" in section_text(run())
    assert "urprises" not in section_text(run(plan=plan(variants=()), memory=[memory_row("bf16")]))


def test_who_answered_the_test_prompt_is_said() -> None:
    answered = ready("awq", test_completion=Completion(prompt="Hello", text=" you"))
    both = {"bf16": ready("bf16", test_completion=Completion(text="x")), "awq": answered}
    assert "All models answered" in section_text(run(ready=both))
    assert "AWQ 4-bit answered" in section_text(run(ready={"bf16": ready("bf16"), "awq": answered}))
    tables = [part for part in memory.section(run(), Speech()).parts if isinstance(part, Table)]
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
