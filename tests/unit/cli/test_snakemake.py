"""Slips in snakemake's options, told before snakemake reads anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantbench.cli.snakemake import check, check_executor
from quantbench.errors import QuantbenchError

CSV = "results/cpu/cells/int8/chat/c1_t32.csv"


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("blocks: 3\n")
    Path("my.json").write_text("{}")
    Path("empty.json").touch()
    Path("tabs.yaml").write_text("blocks:\n\t- 1\n")
    Path("latin.yaml").write_bytes(b"gpu: k\xf6ln\n")
    Path("empty.yaml").write_text("# blocks: 3\n")
    Path(CSV).parent.mkdir(parents=True)
    Path(CSV).write_text("model\n")


SLIPS = {
    f"--cores 1 --configfile my.yaml {CSV}": f"{CSV} is no configuration file",
    f"--configfile my.yaml {CSV} --cores 1": "--configfile … -- " + CSV,
    f"--configfiles my.yaml my.json {CSV}": f"-- {CSV}",
    f"--config gpu=cpu {CSV}": f"{CSV} is no key=value",
    f"-C gpu=cpu blocks=3 {CSV}": "--",
    "--config quality.prompts=null": "write --config 'quality={prompts: null}'",
    "--configfile nowhere.yaml": "nowhere.yaml cannot be read: No such file",
    "--configfile=nowhere.yaml": "nowhere.yaml cannot be read",
    "--configfile nowhere.json": "nowhere.json cannot be read: No such file",
    "--configfile empty.json": "empty.json is not valid JSON",
    "--configfile my.yaml tabs.yaml": "tabs.yaml is not valid YAML",
    "--configfile empty.yaml": "empty.yaml holds no key",
    "--configfile latin.yaml": "latin.yaml is not UTF-8",
}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.fault(f"`snakemake {line}`", "one sentence with the file and the remedy"))
        for line in SLIPS
    ],
)
def test_a_slip_is_a_sentence(line: str) -> None:
    with pytest.raises(QuantbenchError) as raised:
        check(line.split())
    assert SLIPS[line] in str(raised.value)
    assert raised.value.remedy


@pytest.mark.parametrize(
    "line",
    [
        f"--cores 1 --configfile my.yaml -- {CSV}",
        f"{CSV} --cores 1 --configfile my.yaml my.json --config gpu=cpu blocks=3",
        f"--configfile my.yaml -n {CSV}",
        "-n --cores 1",
        "",
    ],
)
def test_what_snakemake_understands_passes(line: str) -> None:
    check(line.split())


@pytest.mark.fault("a profile whose executor is not installed", "`make setup-fleet` in place of snakemake's options")
def test_an_executor_that_is_not_installed_is_told() -> None:
    for name in ("nosuch", "local"):
        Path(name).mkdir()
        Path(name, "profile.yaml").write_text(f"executor: {name}\n")
    with pytest.raises(QuantbenchError, match="'nosuch' of nosuch is not installed") as raised:
        check_executor(["-s", "fleet.smk", "--profile", "nosuch", "--configfile", "my.yaml"])
    assert raised.value.remedy == "make setup-fleet"
    check_executor(["--profile", "local", "--cores", "1"])
    check_executor(["--profile", "elsewhere"])
