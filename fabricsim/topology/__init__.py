"""Topologies: one file a kind, each of which makes the same flat arrays."""

from __future__ import annotations

from fabricsim.topology.circuits import Circuits
from fabricsim.topology.fat_tree import FatTree
from fabricsim.topology.file import TopologyFile
from fabricsim.topology.leaf_spine import LeafSpine
from fabricsim.topology.links import Links
from fabricsim.topology.model import CircuitSchedule, Topology
from fabricsim.topology.nodes import Nodes
from fabricsim.topology.rail_optimized import RailOptimized
from fabricsim.topology.spec import TopologySpec
from fabricsim.topology.star import Star
from fabricsim.topology.torus import Torus

__all__ = [
    "KINDS",
    "CircuitSchedule",
    "Circuits",
    "FatTree",
    "LeafSpine",
    "Links",
    "Nodes",
    "RailOptimized",
    "Star",
    "Topology",
    "TopologyFile",
    "TopologySpec",
    "Torus",
]

#: The kinds of topology by the name that ``[topology] kind`` gives; a new kind is a file and a line here.
KINDS: dict[str, type[TopologySpec]] = {
    "fat_tree": FatTree,
    "leaf_spine": LeafSpine,
    "rail_optimized": RailOptimized,
    "nodes": Nodes,
    "torus": Torus,
    "circuits": Circuits,
    "star": Star,
    "file": TopologyFile,
    "links": Links,
}
