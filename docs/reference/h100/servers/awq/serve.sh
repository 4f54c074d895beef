#!/bin/sh
# The server of awq, exactly as quantbench starts it (spec 40cdece96456).
unset VLLM_CPU_KVCACHE_SPACE VLLM_API_KEY VLLM_CONFIGURE_LOGGING VLLM_LOGGING_CONFIG_PATH VLLM_LOGGING_PREFIX OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS GOTO_NUM_THREADS NUMEXPR_NUM_THREADS VECLIB_MAXIMUM_THREADS
export HF_HUB_OFFLINE=1
export VLLM_NO_USAGE_STATS=1
export VLLM_LOGGING_LEVEL=INFO
export VLLM_LOG_MODEL_INSPECTION=1
export CUDA_VISIBLE_DEVICES=0
export CUDA_DEVICE_ORDER=PCI_BUS_ID
export VLLM_SERVER_DEV_MODE=1
exec python3 -m vllm.entrypoints.cli.main serve models/dummy/awq \
  --served-model-name awq \
  --host 127.0.0.1 \
  --port 8001 \
  --max-model-len 4096 \
  --max-num-seqs 128 \
  --dtype bfloat16 \
  --no-enable-prefix-caching \
  --generation-config vllm \
  --disable-uvicorn-access-log \
  --load-format dummy \
  --gpu-memory-utilization 0.8 \
  --enable-sleep-mode
