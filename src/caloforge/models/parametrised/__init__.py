"""Parametrised showers: formulas and histograms in the place of networks."""
