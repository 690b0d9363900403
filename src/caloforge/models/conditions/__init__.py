"""What a model is told of the incident particle and of the detector."""
