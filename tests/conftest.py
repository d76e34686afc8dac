"""Fixtures that several rooms share."""

import sys

import pytest


@pytest.fixture
def fake_engine(monkeypatch):
    """Put the stand-in of ``fake_engine.py`` in the place of the compiled core."""
    import fake_engine

    import fabricsim._core
    from fabricsim.fabrics import parameter_table

    module = fake_engine.as_module()
    monkeypatch.setitem(sys.modules, "fabricsim._core.engine", module)
    monkeypatch.setattr(fabricsim._core, "engine", module, raising=False)
    parameter_table.cache_clear()
    yield fake_engine
    parameter_table.cache_clear()
