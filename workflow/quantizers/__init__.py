"""Quantizers: programs that the pipeline starts in the environment of vLLM or of llm-compressor."""
