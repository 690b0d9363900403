"""Autoregressive spline flows: blocks, their sequential sampler and its compiled kernel."""
