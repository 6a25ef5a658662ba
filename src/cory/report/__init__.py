"""A run or a comparison as one self-contained HTML page, and its plots as files."""

from cory.report.pages import write_report

__all__ = ["write_report"]
