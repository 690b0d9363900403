"""How data and noise are mixed; a new process is a new file here, or a class elsewhere."""

from caloforge.models.diffusion.processes.base import (
    PROCESSES,
    Network,
    Process,
    ProcessChoice,
    ProcessSettings,
)

__all__ = ["PROCESSES", "Network", "Process", "ProcessChoice", "ProcessSettings"]
