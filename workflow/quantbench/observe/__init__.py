"""What vLLM, its files and the GPU say, parsed."""
