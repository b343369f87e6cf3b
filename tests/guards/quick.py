"""A plug-in of pytest for trials: each must be the same again, soon over, and of the copy that it is made in."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from vmwatch.panel import rules

settings.register_profile(
    "trial",
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def pytest_sessionstart() -> None:
    """After `tests/conftest.py` has loaded its own."""
    settings.load_profile("trial")


def pytest_configure() -> None:
    if not Path(rules.__file__).resolve().is_relative_to(Path.cwd().resolve()):
        raise pytest.UsageError(f"{rules.__file__} is not of the copy in {Path.cwd()}")
