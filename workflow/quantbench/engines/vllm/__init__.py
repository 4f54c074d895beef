"""All that is known of vLLM: its command line, its HTTP API, its log, its metrics page, proofs of quantization."""
