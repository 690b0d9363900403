"""Diffusion and flow-matching generators: one frame of process, sampler, backbone and coordinates."""
