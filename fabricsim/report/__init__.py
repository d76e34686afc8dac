"""Reports to look at: a page about a result, and its operations and links for other tools."""

from fabricsim.report.iblinkinfo import iblinkinfo
from fabricsim.report.page import Report, figures, report_html, write_report
from fabricsim.report.perfetto import PerfettoTrace, write_perfetto
from fabricsim.report.prometheus import prometheus

__all__ = [
    "PerfettoTrace",
    "Report",
    "figures",
    "iblinkinfo",
    "prometheus",
    "report_html",
    "write_perfetto",
    "write_report",
]
