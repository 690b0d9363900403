"""Settings of the classifiers by name: the published definitions and a quick look."""
