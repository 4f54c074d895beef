"""Blocks become statistics, guards, verdicts and costs."""
