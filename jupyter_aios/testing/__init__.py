"""Fakes for tests, and the suites that hold every Store and Engine, fakes too, to their promises.

A new engine is held to them by a subclass::

    class TestMyEngine(EngineContract):
        @pytest.fixture(scope="class")
        def engine(self, reopen): ...
"""

from __future__ import annotations

import sys

# Asserts of a suite should show their values as those of a test file do. Without pytest (a fake
# in somebody's notebook) there is nothing to rewrite.
if "pytest" in sys.modules:
    sys.modules["pytest"].register_assert_rewrite(
        "jupyter_aios.testing.access_contract",
        "jupyter_aios.testing.bench",
        "jupyter_aios.testing.engine_contract",
        "jupyter_aios.testing.store_contract",
    )
