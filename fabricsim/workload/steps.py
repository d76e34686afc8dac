"""Steps of training a large language model as a workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError
from fabricsim.trace import Trace

if TYPE_CHECKING:
    from fabricsim.workload.training import Training

__all__ = ["llm"]


def llm(training: Training | None = None, **options: Any) -> Trace:
    """Return the trace of training steps of a large language model.

    Parameters
    ----------
    training
        What is trained, and how; None: made of ``options``.
    options
        As ``Training.from_dict`` takes them: ``model``, ``ranks``, ``tp``, ``pp``, ``gbs``, ``seq`` and more.

    Raises
    ------
    ConfigError
        With all that does not fit.

    >>> llm(model="llama3-8b", ranks=16, tp=8, gbs=4, seq=4096, zero=1).n_ranks
    16
    """
    from fabricsim.workload.training import Training
    from fabricsim.workload.training.step import llm as steps_of

    if training is None:
        training = Training.from_dict(options)
    elif options:
        raise ConfigError([f"found a training and {', '.join(options)}, allowed: one of the two"])
    return steps_of(training)
