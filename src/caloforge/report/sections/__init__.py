"""The sections of the page as HTML; each is empty where the evaluation has nothing for it."""

from caloforge.report.sections.judges import (
    classifiers_section,
    distances_section,
    localisation_section,
    memorisation_section,
)
from caloforge.report.sections.overview import (
    numbers_section,
    timing_section,
    verdict_section,
    warnings_section,
)
from caloforge.report.sections.physics import (
    conservation_section,
    correlations_section,
    distributions_section,
    profiles_section,
    response_section,
    shapes_section,
    slices_section,
)
from caloforge.report.sections.record import features_section, provenance_section
from caloforge.report.sections.showers import events_section, mean_shower_section

__all__ = [
    "classifiers_section",
    "conservation_section",
    "correlations_section",
    "distances_section",
    "distributions_section",
    "events_section",
    "features_section",
    "localisation_section",
    "mean_shower_section",
    "memorisation_section",
    "numbers_section",
    "profiles_section",
    "provenance_section",
    "response_section",
    "shapes_section",
    "slices_section",
    "timing_section",
    "verdict_section",
    "warnings_section",
]
