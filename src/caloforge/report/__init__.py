"""Everything that is said and shown of results: sentences, tables, figures and pages.

Importing this room draws nothing and loads neither torch nor matplotlib nor plotly.
"""

from caloforge.report.compare import compare
from caloforge.report.evaluate import evaluate, evaluate_events
from caloforge.report.pixels import write_event_report
from caloforge.report.words import in_words, summary
from caloforge.report.write import write_report

__all__ = [
    "compare",
    "evaluate",
    "evaluate_events",
    "in_words",
    "summary",
    "write_event_report",
    "write_report",
]
