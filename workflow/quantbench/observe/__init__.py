"""What model files and the GPUs say, parsed."""
