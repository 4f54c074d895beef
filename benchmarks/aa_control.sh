#!/usr/bin/env bash
# The instrument against itself: the baseline's A/A control, repeated as whole runs (server started anew each time).
#   benchmarks/aa_control.sh [REPETITIONS]      prints a Markdown table; results/aa-1, aa-2, … are kept
set -euo pipefail
cd "$(dirname "$0")/.."
times=${1:-5}
for number in $(seq 1 "$times"); do
  .venv/bin/snakemake --cores 1 --configfile config/gpus/cpu.yaml --quiet all \
    --config "gpu=aa-$number" 'select=[bf16]' 'select_workloads=[chat]' 'workloads={chat: {concurrency: [16]}}' aa_control=true blocks=6 \
    -- "results/aa-$number/comparison/verdict.json" >&2
done
.venv/bin/python - "$times" <<'PY'
import json, sys
print("| run | metric | ratio A/A | 95 % CI | half-width | different? |")
print("|---|---|---|---|---|---|")
for number in range(1, int(sys.argv[1]) + 1):
    aa = json.load(open(f"results/aa-{number}/comparison/verdict.json"))["aa"]
    for metric in ("throughput_tok_s", "p50_ttft_ms", "p50_e2e_ms"):
        row = aa[metric]
        print(f"| {number} | {metric} | {row['ratio']:.3f} | {row['ci_low']:.3f} to {row['ci_high']:.3f} "
              f"| {100 * row['half_width']:.1f} % | {'yes' if row['different'] else 'no'} |")
PY
