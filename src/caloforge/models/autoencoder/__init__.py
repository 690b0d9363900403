"""Autoencoders: variational ones, and those that are trained against critics."""
