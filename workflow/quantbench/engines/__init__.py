"""The programs that serve models, behind one protocol; vLLM is the only one so far."""
