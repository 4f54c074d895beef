"""The toy model of the tests: a tiny Qwen2 trained on our own text, so that they need no hub, no download, no GPU."""
