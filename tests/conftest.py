"""Property tests: the same examples in each run, and no example fails for the time that it takes.

`pytest --hypothesis-profile=search` looks for new ones; what it finds becomes an example of its test.
"""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine stalls an example for more than the default of 200 ms
settings.register_profile("search", settings.get_profile("fixed"), derandomize=False, max_examples=1000)
settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-goldens` of tests/test_goldens.py."""
    parser.addoption("--update-goldens", action="store_true", help="write tests/goldens anew")
