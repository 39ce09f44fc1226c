"""What all tests share: readable failures of the suites, and the same examples in every CI run."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("holdfast.testing")
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):  # elsewhere every run looks for new examples
    settings.load_profile("ci")
