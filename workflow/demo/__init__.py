"""The demo model: a tiny Qwen2 trained on our own text, so that everything runs without a hub or a GPU."""
