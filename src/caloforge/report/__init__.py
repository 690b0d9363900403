"""The report: figures for a note and one page that shows what an evaluation found.

Importing this room draws nothing and loads neither matplotlib nor plotly.
"""

from caloforge.report.write import write_report

__all__ = ["write_report"]
