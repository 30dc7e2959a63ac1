"""The workspace that every test of the report starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_results import make_workspace

from scrimp.config import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A finished study `demo` at the scale `mini`."""
    return make_workspace(tmp_path)
