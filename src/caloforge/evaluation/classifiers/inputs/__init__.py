"""What the classifiers see of a shower: those of the CaloChallenge (arXiv:2410.21611) and images.

A new kind of inputs is a new file here, or a `ClassifierInputs` from elsewhere.
"""

from caloforge.evaluation.classifiers.inputs.base import (
    INPUTS,
    ClassifierInputs,
    Columns,
    Layout,
    Sample,
    Table,
    check_names,
    fill_table,
)

__all__ = ["INPUTS", "ClassifierInputs", "Columns", "Layout", "Sample", "Table", "check_names", "fill_table"]
