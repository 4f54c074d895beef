"""what `quantbench load` writes: CSV rows, request rows, a table, and notes for the person at the terminal."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from quantbench.errors import QuantbenchError
from quantbench.records.block import BlockContext
from quantbench.records.request import RequestRecord

Blocks = Sequence[tuple[Sequence[RequestRecord], BlockContext]]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an OSError into words."""
    try:
        yield
    except OSError as error:
        raise QuantbenchError(f"cannot write {path}: {error.strerror}", remedy="name another file") from error


def check_writable(path: Path) -> None:
    """Raise QuantbenchError if `path` cannot be written, before anything is measured for it. It leaves no file."""
    with _writing(path):
        new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if new:
            path.unlink()


def has_rows(path: Path) -> bool:
    """True for a CSV that rows are appended to."""
    return path.is_file() and path.stat().st_size > 0


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise QuantbenchError if a CSV that is there has other columns."""
    with path.open(newline="", errors="replace") as file:
        header = next(csv.reader(file), [])
    if header != list(columns):
        raise QuantbenchError(f"{path} has other columns than this row", remedy="name a new file with --out")


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append to a CSV, with a header if it is new. Raises QuantbenchError if its columns are others."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        old = has_rows(path)
        if old:
            check_columns(path, list(row))
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if not old:
                writer.writeheader()
            writer.writerow({k: _cell(v) for k, v in row.items()})


def _cell(value: Any) -> Any:
    """CSV text: blank for None, true/false, floats to 0.1 us and the like."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return round(value, 6) if isinstance(value, float) else value


def write_requests(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row per request, as JSON lines or parquet by the file's ending; the whole file anew."""
    from quantbench.files import write_bytes, write_text

    with _writing(path):
        if path.suffix == ".parquet":
            import polars

            content = BytesIO()
            polars.DataFrame(list(rows), infer_schema_length=None).write_parquet(content)
            write_bytes(path, content.getvalue())
        else:
            write_text(path, "".join(orjson.dumps(row).decode() + "\n" for row in rows))


def show_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows side by side: one line per column name, as there are more columns than rows."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), show_header=False)
    table.add_column(no_wrap=True)
    for _ in rows:
        table.add_column(overflow="fold", justify="right")
    for column in columns:
        cells = (_cell(row[column]) for row in rows)
        shown = (f"{c:.4g}" if isinstance(c, float) else "" if c is None else escape(str(c)) for c in cells)
        table.add_row(column, *shown)
    Console().print(table)


def show_codes(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the reason codes of each point on lines of their own: a narrow column would break them within a word."""
    for row in rows:
        for column in ("reasons", "failure_reasons"):
            if row[column]:
                print(f"{column} of c{row['concurrency']}_t{row['max_tokens']}: {row[column].replace(';', '; ')}")


def report_failures(place: str, blocks: Blocks) -> None:
    """On stderr: the server's words, once per reason code of failed requests; failed guards; requests sent again."""
    failed = [r for records, _ in blocks for r in records if not r.ok]
    details = {str(r.reason): r.detail for r in reversed(failed) if r.detail}
    for reason, number in Counter(str(r.reason) for r in failed).most_common():
        _report(place, f"{number} x {reason}", details.get(reason) or "no detail")
    for number, (_, context) in enumerate(blocks, 1):
        for guard in context.guards:
            if guard.status == "fail" and guard.id != "failed_requests":
                _report(place, f"block {number} is invalid, {guard.id}", guard.detail)
    resent = sum(context.client.resent or 0 for _, context in blocks)
    if resent:
        _report(place, f"{resent} requests sent again", "the server had closed their kept connections")


def _report(place: str, what: str, detail: str) -> None:
    """One line; a server's words cannot steer the terminal."""
    words = "".join(c if c.isprintable() else " " for c in detail)
    print(f"{place}: {what}: {' '.join(words.split())[:300]}", file=sys.stderr)
