"""Calibration: the client's own error, paired with the server's truth request by request."""

from __future__ import annotations

import pytest
from quantbench.client import calibration
from quantbench.client.truth_stream import Schedule
from quantbench.errors import QuantbenchError


@pytest.mark.parametrize("concurrency", [1, 24])
def test_errors_are_small_and_positive_and_costs_are_told(concurrency: int) -> None:
    found = calibration.calibrate(concurrency, seconds=0.3, max_tokens=8, itl_ms=1, ttft_ms_range=(2, 6))
    assert found.concurrency == concurrency
    assert found.n % concurrency == 0
    # Causality: the client cannot see a token before it was sent, nor the server get a request before that.
    assert 0 < found.ttft_error_p50_ms < 100
    assert 0 < found.e2e_error_p50_ms < 100
    assert (found.ttft_error_p95_ms is None) == (found.n < 72)
    assert 0 < found.cpu_share < 1.5
    assert 0 < found.cpu_s_per_1k_tokens < 5
    assert 0 < found.concurrency_held <= 1
    assert found.tokens_per_s > 0
    assert found.limit_tok_s > 500


def test_a_failing_request_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(**fields: float) -> Schedule:
        return Schedule(**fields, fault="short")  # type: ignore[arg-type]

    monkeypatch.setattr(calibration, "Schedule", faulty)
    with pytest.raises(QuantbenchError, match="token_count"):
        calibration.calibrate(2, seconds=0.05, max_tokens=4, itl_ms=1, ttft_ms_range=(1, 2))
