"""Showers as trees of energy splits: the whole energy, then layers, then ever smaller cells."""
