"""Import this first in tests that convert or run a model: where the TFLite packages are not installed they are skipped, with the reason."""

import pytest

for package in ("litert_converter", "ai_edge_litert"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install jaxrec[device]", exc_type=ImportError)
