"""File systems of a cluster: their servers, targets, layouts, and what happens to them."""

from __future__ import annotations

from fabricsim.storage.files import core_files
from fabricsim.storage.place import Placement, place
from fabricsim.storage.section import Storage, StorageTarget
from fabricsim.storage.tables import Component, Directory, Failure, Layout, Slow

__all__ = [
    "Component",
    "Directory",
    "Failure",
    "Layout",
    "Placement",
    "Slow",
    "Storage",
    "StorageTarget",
    "core_files",
    "place",
]
