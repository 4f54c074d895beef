"""How long a lane stands still between two blocks: a run of snakemake with stand-in servers, from its own files.

    PYTHONPATH=workflow:tests python benchmarks/block_gaps.py FOLDER [--seconds 2] [--blocks 6] [--mode sleep]

FOLDER is made. Two models share a lane; gaps are told apart by whether the model changed (a switch). What the stand-in
(tests/fake_vllm.py) needs no time for, the switch of a real server and its first requests, comes on top.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections import defaultdict
from pathlib import Path

from box import Box


def gaps(folder: Path) -> tuple[dict[str, list[float]], float]:
    """{"switch" or "same": seconds between blocks}, and the share of the wall time that lies inside blocks."""
    blocks = [json.loads(path.read_text()) for path in folder.glob("results/*/raw/*/*/*/b*.json")]
    blocks.sort(key=lambda block: block["started_unix"])
    found = defaultdict(list)
    for one, two in itertools.pairwise(blocks):
        kind = "same" if one["model"] == two["model"] else "switch"
        found[kind].append(two["started_unix"] - one["started_unix"] - one["duration_s"])
    wall = blocks[-1]["started_unix"] + blocks[-1]["duration_s"] - blocks[0]["started_unix"]
    return dict(found), sum(block["duration_s"] for block in blocks) / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a block")
    parser.add_argument("--blocks", type=int, default=6, help="per model")
    parser.add_argument("--mode", choices=["sleep", "resident"], default="sleep")
    args = parser.parse_args()
    box = Box(args.folder)
    if args.mode == "sleep":
        box.config["server"].pop("kv_cache_gib")
        box.configure(server={"platform": "cuda", "env": {"FAKE_GPU_DIR": str(args.folder / "gpu")}})
    box.configure(
        lanes={"one": {"mode": args.mode, "devices": ["0" if args.mode == "sleep" else "cpu"]}},
        workloads={"chat": {"concurrency": [4]}},
        blocks=args.blocks,
        block={"min_seconds": args.seconds},
    )
    try:
        box.run("capacity")
    finally:
        box.clean_up()
    found, share = gaps(args.folder)
    for kind, seconds in sorted(found.items()):
        print(f"{kind}: n={len(seconds)} median {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s")
    print(f"inside blocks: {share:.1%} of the wall time at blocks of {args.seconds:g} s")


if __name__ == "__main__":
    main()
