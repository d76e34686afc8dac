"""The examples in the docstrings do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import fabricsim

MODULES = [m.name for m in pkgutil.walk_packages(fabricsim.__path__, "fabricsim.") if "._core." not in m.name]


@pytest.mark.parametrize("name", ["fabricsim", *MODULES])
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
