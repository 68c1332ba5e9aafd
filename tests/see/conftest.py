"""What the tests of drawings share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent.parent / "data" / "dumoulin_visin.json"


@pytest.fixture(scope="session")
def numeric() -> dict[str, Any]:
    """The numbers of Dumoulin and Visin's figures."""
    return json.loads(DATA.read_text())["numeric"]
