"""Property tests: the same examples in each run, and no example fails for the time that it takes.

`pytest --hypothesis-profile=search` looks for new ones; what it finds becomes an example of its test.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine stalls an example for more than the default of 200 ms
settings.register_profile("search", settings.get_profile("fixed"), derandomize=False, max_examples=1000)
settings.load_profile("fixed")
