"""What the server says while a block runs: its /metrics page before, during and after, and its log's new lines."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from quantbench.observe import server_metrics
from quantbench.serving import vllm_client

PERIOD_S = 1.0
TIMEOUT_S = 5.0


class Watch:
    """Keeps pages as text while the clock runs and parses them afterwards, to leave the core to the client."""

    def __init__(self, url: str, log: Path | None) -> None:
        self.page_before = self.page_after = ""
        self._url = url.rstrip("/")
        self._log = log
        self._offset = 0
        self._pages: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Called after the warm-up, just before the clock starts."""
        self._offset = self._log.stat().st_size if self._log and self._log.exists() else 0
        self.page_before = self._page()
        self._thread = threading.Thread(target=self._poll, daemon=True, name="watch /metrics")
        self._thread.start()

    def stop(self) -> None:
        """Called right after the clock stops."""
        self.close()
        self.page_after = self._page()

    def close(self) -> None:
        """End the polling; harmless when repeated."""
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def peak(self) -> dict[str, Any]:
        """Highest running, waiting and KV usage seen; None where the server does not tell."""
        return server_metrics.peak([server_metrics.snapshot(page) for page in self._pages])

    def log_window(self) -> str:
        """The log lines that were written since `start`."""
        if not self._log or not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace")

    def _poll(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._pages.append(self._page())

    def _page(self) -> str:
        return vllm_client.metrics(self._url, timeout=TIMEOUT_S)
