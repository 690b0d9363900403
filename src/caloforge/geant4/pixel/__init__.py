"""Events of pixel detectors from Geant4: sources of background, volumes, digitisation, worker processes."""
