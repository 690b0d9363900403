"""Models of how the energy of a shower is shared among layers."""
