"""Deterministic checks of answers, and what a pair of models' answers says together."""
