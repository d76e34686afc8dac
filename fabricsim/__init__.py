"""fabricsim: an emulator of AI-cluster fabrics, packet by packet, under replayed collective traces.

>>> import fabricsim
>>> fabricsim.__version__
'0.1.0'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> module. Loaded on first use, so that importing the package (and `fabricsim --help`) stays instant.
_EXPORTS = {
    "CheckError": "errors",
    "Cluster": "cluster",
    "ConfigError": "errors",
    "DeadlockError": "errors",
    "EngineError": "errors",
    "FabricsimError": "errors",
    "FileSystem": "fs.filesystem",
    "InputError": "errors",
    "Model": "program",
    "Progress": "run",
    "Result": "result",
    "Session": "fs.session",
    "Sweep": "sweep",
    "Trace": "trace",
    "compare": "analysis",
    "compile": "program",
    "read_trace": "trace",
    "replay": "run",
    "write_trace": "trace",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from fabricsim.analysis import compare as compare
    from fabricsim.cluster import Cluster as Cluster
    from fabricsim.errors import CheckError as CheckError
    from fabricsim.errors import ConfigError as ConfigError
    from fabricsim.errors import DeadlockError as DeadlockError
    from fabricsim.errors import EngineError as EngineError
    from fabricsim.errors import FabricsimError as FabricsimError
    from fabricsim.errors import InputError as InputError
    from fabricsim.fs.filesystem import FileSystem as FileSystem
    from fabricsim.fs.session import Session as Session
    from fabricsim.program import Model as Model
    from fabricsim.program import compile as compile
    from fabricsim.result import Result as Result
    from fabricsim.run import Progress as Progress
    from fabricsim.run import replay as replay
    from fabricsim.sweep import Sweep as Sweep
    from fabricsim.trace import Trace as Trace
    from fabricsim.trace import read_trace as read_trace
    from fabricsim.trace import write_trace as write_trace


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fabricsim' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"fabricsim.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
