"""What something was measured with against what is wanted: every difference is said, unknown is not other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from quantbench.config import expected, settings
from quantbench.judge.provenance import answer_differences, block_differences, server_differences
from quantbench.records.base import convert, read
from quantbench.records.block import BlockContext, BlockKnobs, KeptBlock, MeasuredWith, ServedWith
from quantbench.records.cell import Cell
from quantbench.records.quality import AnsweredWith
from report_fixture import KEPT
from source import ROOT

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=60)
LEAVES = SCALARS | st.lists(st.text(max_size=5), max_size=3)
NAMES = st.text("abcdefgh_", min_size=1, max_size=6).filter(lambda name: name != "env")
SPECS = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=4), lambda inner: st.dictionaries(NAMES, LEAVES | inner, max_size=4)
)
KNOBS = BlockKnobs(
    workload="chat", concurrency=16, max_tokens=128, protocol=1, style="interactive", endpoint="chat", template=None,
    min_seconds=20, min_requests=16, warmup_requests=16, warmup_max_tokens=None, timeout_s=60,
)  # fmt: skip
SERVER = ServedWith(spec={"model": "bf16", "settings": {"max_num_seqs": 64}}, vllm="0.32.0", source_id="files")
WITH = MeasuredWith(server=SERVER, knobs=KNOBS, prompts="text")


def paths(spec: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The places of all leaves; an empty mapping has none."""
    for name, value in spec.items():
        yield from paths(value, *above, name) if isinstance(value, Mapping) else [(*above, name)]


@given(SPECS)
def test_a_server_does_not_differ_from_itself_in_other_order(spec: dict[str, Any]) -> None:
    turned = dict(reversed(spec.items()))
    assert server_differences(ServedWith(spec=spec), ServedWith(spec=turned)) == ()


@given(SPECS, st.data())
def test_each_changed_setting_is_said_and_a_missing_one_is_not_compared(spec: dict[str, Any], data: Any) -> None:
    places = list(paths(spec))
    if not places:
        return
    place, other, without = data.draw(st.sampled_from(places)), copy.deepcopy(spec), copy.deepcopy(spec)
    for changed, change in ((other, "another value"), (without, None)):
        *above, name = place
        inner = changed
        for key in above:
            inner = inner[key]
        if change:
            inner[name] = [inner[name], change]
        else:
            del inner[name]
    [said] = server_differences(ServedWith(spec=spec), ServedWith(spec=other))
    assert said.startswith(".".join(place).removeprefix("settings."))
    assert len(said) < 130 + len(".".join(place))
    assert server_differences(ServedWith(spec=spec), ServedWith(spec=without)) == ()
    assert server_differences(ServedWith(spec=without), ServedWith(spec=spec)) == ()


def test_of_the_environment_only_names_are_said() -> None:
    kept, now = ({"settings": {"env": {"TOKEN": value, "SAME": "x"}}} for value in ("old-secret", "new-secret"))
    assert server_differences(ServedWith(spec=kept), ServedWith(spec=now)) == ("env (TOKEN)",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ()),
        ({"server": runs.but(SERVER, spec={"settings": {"max_num_seqs": 7}})}, ("max_num_seqs 7, now 64",)),
        ({"server": runs.but(SERVER, vllm="0.31.0")}, ("vLLM 0.31.0, now 0.32.0",)),
        ({"server": runs.but(SERVER, source_id="others")}, ("files of the model others, now files",)),
        ({"server": runs.but(SERVER, vllm=None, source_id=None)}, ()),
        ({"knobs": runs.but(KNOBS, timeout_s=61)}, ("timeout_s 61, now 60",)),
        ({"knobs": runs.but(KNOBS, template="{prompt}")}, ("template {prompt}, now null",)),
        ({"prompts": "another"}, ("another text of the prompt file",)),
        ({"prompts": None}, ()),
    ],
)
def test_a_block_is_compared_in_all_that_it_tells(changes: dict[str, Any], said: tuple[str, ...]) -> None:
    block = runs.block(measured_with=runs.but(WITH, **changes))
    assert block_differences(block, WITH) == said
    assert block_differences(runs.but(block, protocol=0), WITH) == ("protocol 0, now 1", *said)


def test_a_difference_that_stands_twice_in_a_block_is_said_once() -> None:
    """`min_seconds` is a float of the block and a number as it was written among its knobs."""
    block = runs.block(min_seconds=3.0, measured_with=runs.but(WITH, knobs=runs.but(KNOBS, min_seconds=3)))
    assert block_differences(block, WITH) == ("min_seconds 3, now 20",)


def test_of_an_older_block_the_protocol_is_compared_and_what_else_is_there() -> None:
    old = runs.block()
    assert old.measured_with is None
    assert block_differences(old, WITH) == ()
    assert block_differences(runs.but(old, protocol=0, min_seconds=2.5), WITH) == (
        "protocol 0, now 1",
        "min_seconds 2.5, now 20",
    )


def test_blocks_that_an_earlier_version_measured_are_of_this_configuration() -> None:
    overwrite = settings.read_yaml(ROOT / "benchmarks" / "reference_gpu" / "run.yaml")
    plan = settings.load(ROOT, overwrite | {"gpu": "h100-80gb", "select_workloads": ["chat"]})
    servers = {name: ServedWith(spec=plan.measured_spec(name)) for name in plan.models}
    wanted = expected.Expected(plan, servers, {"chat": None})
    blocks = sorted(KEPT.glob("raw/*/chat/*/b*.json"))
    assert blocks
    for path in blocks:
        whole, kept = read(path, BlockContext), read(path, KeptBlock)
        want = wanted.block(whole.arm, whole.cell)
        assert want is not None
        assert block_differences(whole, want) == block_differences(kept, want) == ()


def test_answers_are_compared_in_their_server_prompts_and_repeats() -> None:
    with_ = AnsweredWith(server=SERVER, prompts="text", floor=(1, 4))
    assert answer_differences(with_, convert(with_.as_dict(), AnsweredWith)) == ()
    other = runs.but(with_, server=runs.but(SERVER, vllm="0.31.0"), prompts="another", floor=())
    assert answer_differences(other, with_) == (
        "vLLM 0.31.0, now 0.32.0",
        "another text of the prompt file",
        "floor [], now [1, 4]",
    )
    thinking = runs.but(with_, thinking=True, thinking_tokens=2048)
    assert answer_differences(with_, thinking) == ("thinking null, now true", "thinking_tokens 0, now 2048")
    assert answer_differences(runs.but(with_, concurrency=8), with_) == ()


def test_what_is_expected_comes_through_the_configuration_of_a_job() -> None:
    plan = settings.load(ROOT, {"gpu": "cpu"})
    cell = Cell.of_row(plan.primary)
    given = expected.Expected(plan, {plan.baseline: SERVER}, {cell.workload: "text"})
    job = expected.of_config(plan.config | {expected.KEY: given.as_config()})
    assert job is not None
    assert job.block(plan.baseline, cell) == given.block(plan.baseline, cell) is not None
    assert job.block(f"{plan.baseline}__aa", cell) == given.block(plan.baseline, cell), (
        "the A/A arm asks the same server"
    )
    assert job.block("stranger", cell) is None
    assert job.block(plan.baseline, Cell.of(cell.workload, 1, 10**6)) is None, "a point that no server can answer"
    assert expected.of_config(plan.config) is None
