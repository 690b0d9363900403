"""Errors that tell a user what was given, what was expected and how to fix it."""

__all__ = [
    "BusyError",
    "CaloforgeError",
    "CheckpointError",
    "CodeError",
    "ConditionError",
    "DataError",
    "DetectorError",
    "ExportError",
    "MeshError",
    "MissingDependencyError",
    "RecipeError",
    "SimulationError",
    "TrainingError",
]


class CaloforgeError(Exception):
    """Base of every error that a user can cause and mend; the command line prints it without a traceback."""


class DetectorError(CaloforgeError, ValueError):
    """A detector file is missing, malformed or inconsistent."""


class MeshError(CaloforgeError, ValueError):
    """A mesh is malformed, or two meshes that must agree do not."""


class ConditionError(CaloforgeError, ValueError):
    """Incident conditions are malformed or outside the valid range."""


class DataError(CaloforgeError, ValueError):
    """A shower file is unreadable, truncated or holds illegal values."""


class BusyError(DataError):
    """Another process has the file or folder at the moment."""


class RecipeError(CaloforgeError, ValueError):
    """A recipe is malformed or does not fit the data."""


class CheckpointError(CaloforgeError, ValueError):
    """A checkpoint is unreadable or does not fit what is asked of it."""


class ExportError(CheckpointError):
    """A model cannot be exported as it is asked for, or an exported file is not what it should be."""


class CodeError(CaloforgeError):
    """A file names code of a package that the user has not allowed, see `caloforge.allow_code`."""


class SimulationError(CaloforgeError, RuntimeError):
    """Geant4 could not be started or a simulation failed."""


class TrainingError(CaloforgeError, RuntimeError):
    """Training had to stop, for example because the loss became NaN."""


class MissingDependencyError(CaloforgeError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is needed for this and is not installed; "
            f"install it with: pip install 'caloforge[{extra}]'"
        )
