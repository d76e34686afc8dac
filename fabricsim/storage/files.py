"""The files of a trace on the file systems of a cluster, as the core takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fabricsim.storage.section import Storage
from fabricsim.storage.tables import ALL

if TYPE_CHECKING:
    from fabricsim.trace.files import FileTable

__all__ = ["core_files"]


def core_files(files: FileTable, storage: Sequence[Storage]) -> dict[str, Any]:
    """Return what the core knows of each file and directory.

    Parameters
    ----------
    files
        The files of a trace, found with the mounts of ``storage`` in their order.
    storage
        The file systems.

    Returns
    -------
    dict
        ``store`` int8[files], ``directory`` int32[files], ``layout`` int32[files] (0: the file system's own),
        ``bytes`` int64[files] (before the run, -1: it is not there) and ``directory_stripes``
        int32[directories]; ``ranks_per_client`` where ranks share one.
    """
    layout = np.zeros(len(files.paths), np.int32)
    stripes = np.ones(len(files.directories), np.int32)
    of_directory = np.zeros(len(files.directories), np.int8)
    of_directory[files.directory] = files.mount
    for number, one in enumerate(storage):
        mine = files.mount == number
        found = _longest(files.paths, [table.path for table in one.layout])
        layout[mine] = found[mine] + 1
        here = _longest(files.directories, [table.path for table in one.directory])
        given = np.array([table.stripes for table in one.directory] + [1], np.int32)[here]
        given = np.where(given == ALL, one.n_meta, np.minimum(given, one.n_meta))
        stripes[of_directory == number] = given[of_directory == number]
    together = storage[0].ranks_per_client
    shared = {"ranks_per_client": np.int32(together)} if together > 1 else {}
    return shared | {
        "store": files.mount,
        "directory": files.directory,
        "layout": layout,
        "bytes": files.size_bytes,
        "directory_stripes": stripes,
    }


def _longest(paths: pa.Array, folders: list[str]) -> np.ndarray:
    """Return int32[paths], the longest folder that is or holds each path; -1 for none."""
    found = np.full(len(paths), -1, np.int32)
    for number in sorted(range(len(folders)), key=lambda i: len(folders[i].rstrip("/"))):
        folder = folders[number].rstrip("/")
        inside = pc.or_(pc.starts_with(paths, folder + "/"), pc.equal(paths, folder))
        found[np.asarray(inside.to_numpy(zero_copy_only=False))] = number
    return found
