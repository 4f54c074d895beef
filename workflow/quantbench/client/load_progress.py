"""A progress line for a block of load. It is drawn once a second at most, as drawing delays the client."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextlib.contextmanager
def block_progress(
    title: str, requests: int, seconds: float, *, quiet: bool = False
) -> Iterator[Callable[[int, float], None] | None]:
    """Yield the callback for `load.run_block`, or None when there is no terminal to draw on."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]} replies"))
    bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, auto_refresh=False)
    with bars:
        task = bars.add_task(title, total=1.0, done=0)

        def update(done: int, elapsed: float) -> None:
            shares = [done / requests] if requests else []
            shares += [elapsed / seconds] if seconds else []
            bars.update(task, completed=min([1.0, *shares]) if shares else 0.0, done=done, refresh=True)

        yield update
        bars.update(task, completed=1.0, refresh=True)
