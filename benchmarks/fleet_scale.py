"""What a fleet of N comparisons costs the scheduler and the host that sends it: SLURM by stand-ins that answer at once.

    make setup-fleet
    .venv/bin/python benchmarks/fleet_scale.py FOLDER [--comparisons 1000] [--takes 60] [options of snakemake]

FOLDER is made, with the project and a fleet file. `snakemake -s fleet.smk --profile profiles/slurm` runs there as a
user runs it, with the real executor; `sbatch`, `sacct` and the others on its PATH are one shell script that notes its
call. A job is over `--takes` seconds after it was sent, and an empty marker is there then: nothing is measured that
could be joined, so the run ends with an error after the last marker. Printed are how often each command was called, and
what the process of Snakemake has used by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("fleet.smk", "rules", "workflow", "config", "data", "profiles", "envs")
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "sshare", "scancel")
STAND_IN = r"""#!/bin/sh
# One line of `calls` per call; a job is a line of `jobs`: its number, its comparison, when it is over.
name=${0##*/}
echo "$name $1" >> "$STAND_IN/calls"
case "$name $1" in
  "sbatch "*)
    exec 9>> "$STAND_IN/jobs" && flock 9
    number=$(($(wc -l < "$STAND_IN/jobs") + 1))
    comparison=$(printf '%s' "$*" | sed -n 's/.*comparison=\(c[0-9]*\).*/\1/p' | head -n 1)
    mkdir -p "$FLEET/$comparison"
    echo "$number $comparison $(($(date +%s) + TAKES))" >> "$STAND_IN/jobs"
    echo "$number" ;;
  "sacct -X")  # the states of all jobs
    awk -v now="$(date +%s)" -v fleet="$FLEET" '{
      over = $3 <= now
      if (over) print "{}" > (fleet "/" $2 "/done.json")
      close(fleet "/" $2 "/done.json")
      print $1 "|" (over ? "COMPLETED" : "RUNNING")
    }' "$STAND_IN/jobs" ;;
  "scontrol "*) echo "MinJobAge = 300 sec" ;;
  "sinfo "*) echo "main*" ;;
  *) echo "mine" ;;  # an account, or that the command is there
esac
"""


def project(folder: Path, comparisons: int) -> None:
    """The project, a fleet of so many comparisons, and the commands of SLURM."""
    folder.mkdir(parents=True)
    for part in PARTS:
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy2)(ROOT / part, folder / part)
    entries = {
        f"c{n:04}": {"config": {"gpu": "h100-80gb", "blocks": 6 + n % 4}, "resources": {"gpus": 1, "cpus": 8}}
        for n in range(1, comparisons + 1)
    }
    (folder / "fleet.json").write_text(json.dumps({"fleet": "scale", "comparisons": entries}))
    for command in COMMANDS:
        path = folder / "bin" / command
        path.parent.mkdir(exist_ok=True)
        path.write_text(STAND_IN)
        path.chmod(0o755)
    for name in ("calls", "jobs"):
        (folder / name).touch()


def used(pid: int) -> tuple[float, float, float] | None:
    """CPU seconds of a process itself, those of the children it has waited for, and its most memory in MB.

    None once it is over and only waited for.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, children = (sum(map(int, fields[n : n + 2])) / os.sysconf("SC_CLK_TCK") for n in (11, 13))
    most = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2]
    return (own, children, int(most.split()[0]) / 1024) if most else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--takes", type=int, default=60, help="seconds of each")
    args, options = parser.parse_known_args()
    folder = args.folder.resolve()
    project(folder, args.comparisons)
    env = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "STAND_IN": str(folder),
        "FLEET": str(folder / "fleets/scale"),
        "TAKES": str(args.takes),
    }
    line = [sys.executable, "-m", "snakemake", "-s", "fleet.smk", "--profile", "profiles/slurm"]
    line += ["--configfile", "fleet.json", "--until", "run_comparison", *options]
    began = time.monotonic()
    with (folder / "out.txt").open("w") as out:
        process = subprocess.Popen(line, cwd=folder, env=env, stdout=out, stderr=out)
        seen, first = (0.0, 0.0, 0.0), None
        while now := used(process.pid):
            seen = now
            if first is None and (folder / "jobs").stat().st_size:
                first = seen[0]
            time.sleep(0.2)
        process.wait()
    markers = len(list((folder / "fleets/scale").glob("*/done.json")))
    calls = Counter((folder / "calls").read_text().splitlines())
    print(f"{args.comparisons} comparisons of {args.takes} s: exit {process.returncode}, {markers} markers")
    print(f"{time.monotonic() - began:.0f} s of the clock; calls: {dict(calls.most_common())}")
    print(f"Snakemake itself: {seen[0]:.1f} s CPU ({first or 0:.1f} until the first job), {seen[2]:.0f} MB at most; "
          f"the commands it has called: {seen[1]:.1f} s CPU")  # fmt: skip


if __name__ == "__main__":
    main()
