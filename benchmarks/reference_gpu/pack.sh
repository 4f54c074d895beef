#!/usr/bin/env bash
# Packs the Python packages of a GPU run for a host without a network: what envs/vllm-cuda.txt and envs/pipeline.txt pin,
# installed into one folder, without what that host has or does not need, compressed and in parts.
#
#   benchmarks/reference_gpu/pack.sh [options] [pipeline] [vllm]      (default: both; all of it is several GB)
#     --python PROGRAM   interpreter of the host's version (default: python3.12); this machine must be of the host's kind
#     --have FILE        packages that the host has, as `pip freeze` prints them; left out, whatever their version
#     --drop GLOB        files to leave out, for example 'vllm/third_party/deep_gemm/include/*'; may be repeated
#     --part SIZE        largest size of a part (default: 58M)
#     --out FOLDER       where the parts go (default: .gpu)
#     --list             print what would be packed and stop
#
# A host with its own PyTorch (the H100 of docs/reference/h100: CPython 3.12, PyTorch 2.11.0 for CUDA 13). There:
#   pip freeze | grep -E '^(torch|triton|nvidia|cuda)' > have.txt
# here (the FlashAttention-2 kernels are for cards before Hopper only):
#   benchmarks/reference_gpu/pack.sh --have have.txt --drop 'vllm/vllm_flash_attn/_vllm_fa2_C*' --drop 'vllm/vllm-rs'
# and there again, beside the repository and with its parts:
#   sha256sum -c SHA256SUMS && cat part.* | xz -dc -T0 | tar xf - -C /tmp && export PYTHONPATH=/tmp/site:$PWD/workflow
#   python benchmarks/reference_gpu/make_models.py models/dummy
#   python -m snakemake --cores 1 --configfile benchmarks/reference_gpu/run.yaml
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=python3.12 have=/dev/null part=58M out=.gpu list=no drop=() parts=()

fail() { echo "pack: $1" >&2; echo "  remedy: $2" >&2; exit 2; }

while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"; exit ;;
    --list) list=yes; shift ;;
    --python | --have | --drop | --part | --out)
      [ $# -ge 2 ] || fail "$1 needs a value" "see --help"
      case "$1" in --drop) drop+=("$2") ;; *) declare "${1#--}=$2" ;; esac
      shift 2 ;;
    pipeline | vllm) parts+=("$1"); shift ;;
    *) fail "unknown argument '$1'" "see --help" ;;
  esac
done
[ ${#parts[@]} -gt 0 ] || parts=(vllm pipeline)
[ -r "$have" ] || fail "--have: $have cannot be read" "name a file with a package per line"
"$python" -m pip --version >/dev/null 2>&1 || fail "'$python' is no Python with pip" "install it, or name another one with --python"

# name==version lines of the wanted files. Where both pin a package, vLLM's version is taken, as it is the pickier one.
wanted() {
  local names
  names=$(sed -E 's/[][<>@; =].*//' "$have" | tr 'A-Z_.' 'a-z--')
  for what in vllm pipeline; do
    [[ " ${parts[*]} " == *" $what "* ]] || continue
    local file="$root/envs/${what/vllm/vllm-cuda}.txt"
    awk -F'[=; ]' 'NR == FNR { skip[$1]; next } NF && !($1 in skip)' <(echo "$names") "$file"
    names+=$'\n'$(sed 's/[=; ].*//' "$file")
  done
}

if [ $list = yes ]; then wanted; exit; fi
mkdir -p "$out"; out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/.pack.XXXXXX"); trap 'rm -rf "$work"' EXIT
wanted > "$work/requirements.txt"
echo "pack: $(wc -l < "$work/requirements.txt") pins for $("$python" --version)" >&2
"$python" -m pip install --quiet --no-deps --no-compile --target "$work/site" -r "$work/requirements.txt"
(cd "$work/site" && for glob in "${drop[@]}"; do
  found=$(compgen -G "$glob") || fail "--drop: nothing matches '$glob'" "correct it; the folder is laid out as site-packages"
  xargs -d '\n' rm -rf <<< "$found"
done)
rm -f "$out"/part.* "$out/SHA256SUMS"
tar cf - -C "$work" site | xz -T0 -3 | split -b "$part" - "$out/part."
(cd "$out" && sha256sum part.* > SHA256SUMS)
echo "pack: $(du -sm "$work/site" | cut -f1) MiB unpacked, $(du -cm "$out"/part.* | tail -1 | cut -f1) MiB in $(ls "$out"/part.* | wc -l) parts in $out" >&2
