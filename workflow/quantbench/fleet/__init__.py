"""Several comparisons: what a fleet file says, a run of the pipeline for each, and what they say together."""
