"""Reports to look at: a page about a result, and its operations and links for other tools."""

from fabricsim.report.page import Report, figures, report_html, write_report

__all__ = ["Report", "figures", "report_html", "write_report"]
