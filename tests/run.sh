#!/usr/bin/env bash
# Every check of the project, cheapest first.   tests/run.sh [check|unit|tests|all]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
unset PYTHONDONTWRITEBYTECODE # where it is set, each process of a test compiles what it imports
workers=$(($(nproc) + 1)) # the life-cycle tests wait half of their time; with more they were no faster

# stage NAME COMMAND...: says what begins, and how long it took.
stage() {
  local name=$1 began=$SECONDS; shift
  printf '\n== %s\n' "$name" >&2
  "$@"
  printf '== %s: %d s\n' "$name" $((SECONDS - began)) >&2
}

python_code() {
  ruff check . && ruff format --check . && mypy || return
  # The scripts get `snakemake` from outside and have no types; what they call must exist.
  mypy --cache-dir .mypy_cache/scripts --follow-imports silent --check-untyped-defs --allow-untyped-defs --allow-untyped-calls \
    --disable-error-code name-defined workflow/scripts
}

workflow() {
  snakefmt --check Snakefile fleet.smk rules && snakemake --lint --config gpu=cpu || return
  snakemake --lint -s fleet.smk --config fleet=lint 'comparisons={a: {config: {gpu: cpu}}}' || return
  for profile in config/gpus/*.yaml; do
    snakemake --dry-run --quiet all --cores 1 --configfile "$profile" >/dev/null || { echo "dry run of $profile failed" >&2; return 1; }
    echo "dry run of $profile: ok" >&2
  done
}

checks() {
  local failed=
  python_code & local other=$!
  workflow || failed=yes
  wait $other || failed=yes
  [ -z "$failed" ]
}

tests() {
  stage "unit and property tests, life cycle, making models" pytest tests -m "not alone" -n "$workers" --dist worksteal
  stage "planted faults and real vLLM: timing is judged, so one by one" pytest tests -m alone
}

case "${1:-all}" in
  check) stage "formats, types, lint, dry runs" checks ;;
  unit) stage "unit and property tests, golden pages" pytest tests/unit tests/test_goldens.py -n "$workers" ;;
  tests) tests ;;
  all)
    stage "formats, types, lint, dry runs" checks
    tests
    ;;
  *) echo "tests/run.sh: unknown '$1'; use check, unit, tests or all" >&2; exit 2 ;;
esac
