"""An fsspec file system on an emulated cluster: real bytes, emulated time (extra ``fsspec``).

>>> import fabricsim
>>> fabricsim.Session  # doctest: +ELLIPSIS
<class 'fabricsim.fs.session.Session'>
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fabricsim.fs.session import Session

if TYPE_CHECKING:
    from fabricsim.fs.filesystem import FileSystem as FileSystem

__all__ = ["FileSystem", "Session"]


def __getattr__(name: str) -> Any:
    if name == "FileSystem":
        from fabricsim.fs.filesystem import FileSystem

        return FileSystem
    raise AttributeError(f"module 'fabricsim.fs' has no attribute {name!r}")
