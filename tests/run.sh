#!/usr/bin/env bash
# Every check of the project, cheapest first.   tests/run.sh [check|unit|all]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
what=${1:-all}
step() { printf '\n== %s\n' "$1" >&2; }

if [ "$what" = check ] || [ "$what" = all ]; then
  step "ruff"; ruff check . && ruff format --check .
  step "mypy --strict"; mypy
  step "snakefmt"; snakefmt --check Snakefile rules
  step "snakemake --lint"; snakemake --lint --config gpu=cpu
  step "dry run of every GPU profile"
  for profile in config/gpus/*.yaml; do
    snakemake --dry-run --quiet all --cores 1 --configfile "$profile" >/dev/null || { echo "dry run of $profile failed" >&2; exit 1; }
    echo "$profile: ok" >&2
  done
fi
case "$what" in
  unit) step "unit and property tests, golden pages"; pytest tests/unit tests/test_goldens.py -n 2 ;;
  all)
    step "unit and property tests, life cycle (stand-in servers)"
    pytest tests -m "not vllm and not slow" -n 2
    step "real vLLM on the CPU, the demo model made again, quantizers"
    pytest tests -m "vllm or slow" ;;
esac
