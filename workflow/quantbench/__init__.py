"""quantbench: is the quantized model worth it, on this GPU, for this workload?

Imports point one way: scripts -> edges -> pure. docs/architecture.md lists which module is which.
"""
