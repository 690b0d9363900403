"""Monotonic rational-quadratic splines, in torch and compiled."""
