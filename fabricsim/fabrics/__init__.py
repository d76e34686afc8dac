"""How a cluster names the models of the core and their parameters."""

from __future__ import annotations

from fabricsim.fabrics.parameters import Parameter, ParameterTable, parameter_table

__all__ = ["Parameter", "ParameterTable", "parameter_table"]
