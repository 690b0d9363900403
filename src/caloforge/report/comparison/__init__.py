"""The page of a comparison of several generators."""

from caloforge.report.comparison.page import PAGE_FILE, write_comparison

__all__ = ["PAGE_FILE", "write_comparison"]
