"""SuperCalo: layer energies, a coarse shower, then a fine one."""
