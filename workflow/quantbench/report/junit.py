"""Two runs compared as JUnit's XML, which CI systems show: a test case per model and cell."""

from __future__ import annotations

from xml.etree import ElementTree

from quantbench.records.metric import METRICS
from quantbench.records.two_runs import RunRow, TwoRuns, outcome
from quantbench.report.document import grouped
from quantbench.report.marks import plain
from quantbench.visible import visible


def junit(found: TwoRuns) -> str:
    """The XML text. A case fails where a metric is worse, and is skipped where one is undecided and none worse.

    Messages are the words of the rows (`two_runs.worded`), metric by metric.
    """
    cases = grouped(found.gated, lambda row: (row.model, row.cell))
    suite = ElementTree.Element("testsuite", name="quantbench compare", errors="0")
    for (model, cell), rows in cases.items():
        case = ElementTree.SubElement(suite, "testcase", classname=f"{model}.{cell.workload}", name=cell.point)
        result = outcome(rows)
        if result == "worse":
            worse = [row for row in rows if row.fails]
            ElementTree.SubElement(case, "failure", message=_said(worse), type="worse").text = _said(rows, "\n")
        elif result == "undecided":
            ElementTree.SubElement(
                case, "skipped", message=_said([row for row in rows if row.code == "worse" or not row.decided])
            )
        else:
            ElementTree.SubElement(case, "system-out").text = _said(rows, "\n")
    for gone in () if found.subset else found.only_old:
        model, _, place = gone.partition(" ")
        workload, _, point = place.rpartition("/")
        case = ElementTree.SubElement(suite, "testcase", classname=f"{model}.{workload}", name=point)
        ElementTree.SubElement(case, "skipped", message="only in the old run")
    suite.set("tests", str(len(suite)))
    for name in ("failures", "skipped"):
        suite.set(name, str(len(suite.findall(f"testcase/{name.removesuffix('s')}"))))
    ElementTree.indent(suite)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(suite, encoding='unicode')}\n"


def _said(rows: list[RunRow], joint: str = "; ") -> str:
    """What rows say; XML has no control characters, `visible` writes them out."""
    return joint.join(visible(plain(f"{METRICS[row.metric].words}: {row.words}")) for row in rows)
