"""What every room that runs something shares: files, signals, progress, devices, random numbers."""
