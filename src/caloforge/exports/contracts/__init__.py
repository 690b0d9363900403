"""Contracts of programs that run exported models."""
