"""What networks know of the incident particle and of the detector."""
