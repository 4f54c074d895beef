"""What a run writes and reads: cells, metrics, reason codes, paths, and the type of every file."""
