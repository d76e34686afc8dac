"""Nodes of several GPUs: a scale-up network inside a domain, and network interfaces on a scale-out fabric.

Sources: NVIDIA DGX SuperPOD reference architectures (rails); Grattafiori et al., "The Llama 3 herd of
models", 2024, section 3.3 (racks, pods, an oversubscribed tier over them); AMD Instinct MI300X data sheet
(full mesh).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from fabricsim.fabrics.section import Issue, raise_issues
from fabricsim.topology.cabling import SCALE_UP, Cabling
from fabricsim.topology.model import Int64, Topology
from fabricsim.topology.spec import MAX_HOSTS, MAX_PORTS, Delay, Latency, Rate, TopologySpec, joints

__all__ = ["Nodes"]

Count = Annotated[int, Field(ge=1, le=65_536)]
Some = Annotated[int, Field(ge=0, le=65_536)]


class Nodes(TopologySpec):
    """Nodes of several GPUs, each of which is a host: host ``node * gpus_per_node + gpu``.

    **Scale-up.** ``switch`` joins all GPUs of a domain by one logical crossbar (NVSwitch); ``mesh`` joins
    each pair of them by a cable of its own (xGMI): a GPU is then a host with a router, on an internal cable
    as fast as all its links.

    **Network interfaces.** With fewer than GPUs, neighbouring GPUs share one: GPU g has interface ``g * nics
    // gpus``. With more, a GPU has several, side by side. Such an interface, and any with a ``pcie_rate``, is
    a node of its own; the cable from the GPU carries ``pcie_rate``, but no more than the interface. Without a
    ``pcie_rate`` the cable of a GPU with one interface goes straight to the fabric.

    **Scale-out.** ``rails``: interface r of each node goes to leaf r of its group of ``nodes_per_leaf``
    nodes. ``racks``: all interfaces of these nodes go to one leaf. Spines join the leaves of a pod, cores the
    spines of all pods. A single leaf needs no spines, and a single pod no cores: they are left out, so that a
    part of a cluster is one number away.

    **Ports.** A leaf has its nodes in order, then the spines (parallel cables side by side), then its
    reducer; a spine the leaves, then the cores; a router its host, then its peers in order.

    Parameters
    ----------
    nodes, gpus_per_node
        Numbers, >= 1.
    scale_up
        ``switch``, ``mesh`` or ``none``.
    nodes_per_domain
        Nodes whose GPUs make up one scale-up domain, >= 1; default 1.
    scale_up_rate_mbps
        What a GPU sends, all its scale-up links together, Mb/s one way.
    scale_up_latency_ps
        Propagation delay of a scale-up cable, ps, > 0.
    scale_up_switch_latency_ps
        Fixed pipeline latency of a scale-up switch or router, ps.
    internal_latency_ps
        Delay between a GPU and its router in a mesh, ps, > 0; default ``scale_up_latency_ps``.
    nvls
        Whether the scale-up switch reduces and multicasts: one reducer a domain.
    nics_per_node
        Network interfaces of a node; a multiple of ``gpus_per_node`` or a divisor of it; default one a GPU.
    pcie_rate_mbps, pcie_latency_ps
        Rate, Mb/s one way, and delay, ps, > 0, of the cable between a GPU and its interface.
    nic_latency_ps
        Fixed pipeline latency of an interface, each way, ps. Where the interface is no node of its own it is
        part of the delay of the cable.
    fabric
        ``rails``, ``racks`` or ``none``.
    nodes_per_leaf
        Nodes that share a leaf, or one leaf a rail; default all of a pod.
    spines, links_per_spine
        Spines of a pod, and parallel cables from each leaf to each.
    nodes_per_pod
        Nodes of a pod; default all.
    cores, links_per_core
        Switches that join all spines, and parallel cables from each spine to each.
    rate_mbps
        Rate of all scale-out cables, Mb/s. ``host_rate_mbps`` (of one interface), ``fabric_rate_mbps``
        (between leaves and spines) and ``core_rate_mbps`` differ from it where given; the last follows the
        second.
    latency_ps, core_latency_ps
        Propagation delay of the scale-out cables, and of those to the cores, ps, > 0.
    sharp
        Whether the scale-out switches reduce: one reducer each.

    >>> spec = Nodes(nodes=2, gpus_per_node=8, scale_up_rate_mbps=3_600_000, scale_up_latency_ps=100_000,
    ...              spines=4, rate_mbps=400_000, latency_ps=100_000)
    >>> t = spec.build()
    >>> t, t.link_name(2 * 19)
    (Topology(nodes: 16 hosts, 14 switches, 64 cables), 'node0.gpu3->group0.leaf3')
    """

    summary: ClassVar[str] = "nodes of several GPUs: scale-up domains, interfaces, and rails or racks"

    kind: Literal["nodes"] = "nodes"
    nodes: Count
    gpus_per_node: Annotated[int, Field(ge=1, le=1024)]

    scale_up: Literal["switch", "mesh", "none"] = "switch"
    nodes_per_domain: Count = 1
    scale_up_rate_mbps: Rate | None = None
    scale_up_latency_ps: Delay | None = None
    scale_up_switch_latency_ps: Latency = 0
    internal_latency_ps: Delay | None = None
    nvls: bool = False

    nics_per_node: Annotated[int, Field(ge=1, le=1024)] | None = None
    pcie_rate_mbps: Rate | None = None
    pcie_latency_ps: Delay | None = None
    nic_latency_ps: Latency = 0

    fabric: Literal["rails", "racks", "none"] = "rails"
    nodes_per_leaf: Count | None = None
    spines: Some = 0
    links_per_spine: Count = 1
    nodes_per_pod: Count | None = None
    cores: Some = 0
    links_per_core: Count = 1
    rate_mbps: Rate | None = None
    host_rate_mbps: Rate | None = None
    fabric_rate_mbps: Rate | None = None
    core_rate_mbps: Rate | None = None
    latency_ps: Delay | None = None
    core_latency_ps: Delay | None = None
    sharp: bool = False

    # ---- checks

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        if self.n_gpus > MAX_HOSTS:
            issues.append(((), f"makes {self.n_gpus:,} GPUs, allowed: at most {MAX_HOSTS:,}", None))
        self._check_scale_up(issues)
        self._check_scale_out(issues)
        if not issues:
            self._check_ports(issues)
        if self.scale_up == "none" and self.fabric == "none":
            text = "found 'none' with scale_up = \"none\", allowed: rails or racks; the GPUs need a network"
            issues.append((("fabric",), text, "none"))
        raise_issues(type(self).__name__, issues)
        return self

    def _check_scale_up(self, issues: list[Issue]) -> None:
        if self.scale_up == "none":
            if self.nvls:
                issues.append((("nvls",), 'found true, allowed: false with scale_up = "none"', True))
            return
        if self.scale_up_rate_mbps is None:
            issues.append((("scale_up_rate",), 'missing, allowed: scale_up_rate = "450GB/s"', None))
        if self.scale_up_latency_ps is None:
            issues.append((("scale_up_latency",), 'missing, allowed: scale_up_latency = "100ns"', None))
        if self.scale_up == "mesh" and self.nvls:
            issues.append((("nvls",), 'found true, allowed: false with scale_up = "mesh"', True))
        if self.fabric == "none" and self.nodes > self.nodes_per_domain:
            most = f"1 to {self.nodes_per_domain} (nodes_per_domain)"
            text = f'found {self.nodes}, allowed: {most} with fabric = "none"'
            issues.append((("nodes",), text, self.nodes))

    def _check_scale_out(self, issues: list[Issue]) -> None:
        if self.fabric == "none":
            if self.sharp:
                issues.append((("sharp",), 'found true, allowed: false with fabric = "none"', True))
            return
        nics, gpus = self.n_nics, self.gpus_per_node
        if nics % gpus and gpus % nics:
            text = f"found {nics}, allowed: a multiple or a divisor of gpus_per_node, {gpus}"
            issues.append((("nics_per_node",), text, nics))
        elif nics < gpus and self.pcie_rate_mbps is None:
            text = 'missing, allowed: pcie_rate = "63GB/s", of each GPU to the interface that it shares'
            issues.append((("pcie_rate",), text, None))
        if self.pcie_rate_mbps is not None and self.pcie_latency_ps is None:
            issues.append((("pcie_latency",), 'missing, allowed: pcie_latency = "200ns"', None))
        if self.rate_mbps is None and (self.host_rate_mbps is None or self.fabric_rate_mbps is None):
            text = 'missing, allowed: rate = "400Gbps" (or both host_rate and fabric_rate)'
            issues.append((("rate",), text, None))
        if self.latency_ps is None:
            issues.append((("latency",), 'missing, allowed: latency = "100ns"', None))
        shape = _Shape(self)
        if shape.most_leaves > 1 and self.spines < 1:
            text = f"found {self.spines}, allowed: >= 1 to join the {shape.most_leaves} leaves of a pod"
            issues.append((("spines",), text, self.spines))
        if shape.pods > 1 and self.cores < 1:
            text = f"found {self.cores}, allowed: >= 1 to join {shape.pods} pods"
            issues.append((("cores",), text, self.cores))
        if shape.pods > 1 and self.spines < 1 and shape.most_leaves == 1:
            text = f"found {self.spines}, allowed: >= 1, which the cores join"
            issues.append((("spines",), text, self.spines))

    def _check_ports(self, issues: list[Issue]) -> None:
        """Say which switches would have more ports than the core takes."""
        shape = _Shape(self)
        domain = min(self.nodes_per_domain, self.nodes) * self.gpus_per_node
        up = {"switch": domain + self.nvls, "mesh": domain, "none": 0}[self.scale_up]
        nic = self.gpus_per_node // min(self.n_nics, self.gpus_per_node) + max(
            self.n_nics // self.gpus_per_node, 1
        )
        leaf = shape.nodes_of_leaf * (1 if self.fabric == "rails" else self.n_nics) + self.sharp
        leaf += self.links_per_spine * self.spines if shape.spines else 0
        spine = shape.most_leaves * self.links_per_spine + shape.cores * self.links_per_core + self.sharp
        core = shape.spines * self.links_per_core + self.sharp
        found = [("nodes_per_domain", "scale-up switches", up)]
        if self.fabric != "none":
            found += [("nics_per_node", "interfaces", nic), ("nodes_per_leaf", "leaves", leaf)]
            found += [("spines", "spines", spine if shape.spines else 0)]
            found += [("cores", "cores", core if shape.cores else 0)]
        for key, what, ports in found:
            if ports > MAX_PORTS:
                text = f"makes {what} of {ports:,} ports, allowed: at most {MAX_PORTS:,}"
                issues.append(((key,), text, getattr(self, key)))

    # ---- numbers

    @property
    def n_gpus(self) -> int:
        """Number of GPUs, which are the hosts that ranks live on."""
        return self.nodes * self.gpus_per_node

    @property
    def n_nics(self) -> int:
        """Network interfaces of a node."""
        return self.nics_per_node or self.gpus_per_node

    @property
    def has_nic_nodes(self) -> bool:
        """Whether interfaces are nodes of their own."""
        one_each = self.n_nics == self.gpus_per_node and self.pcie_rate_mbps is None
        return self.fabric != "none" and not one_each

    # ---- building

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        return _Builder(self).build()


class _Shape:
    """How many groups, pods and switches of each kind there are."""

    def __init__(self, spec: Nodes) -> None:
        per_pod = min(spec.nodes_per_pod or spec.nodes, spec.nodes)
        per_leaf = min(spec.nodes_per_leaf or per_pod, per_pod)
        node = np.arange(spec.nodes, dtype=np.int64)
        groups_of_pod = -(-per_pod // per_leaf)
        self.nodes_of_leaf = per_leaf
        self.group_of_node = node // per_pod * groups_of_pod + node % per_pod // per_leaf
        self.leaves_of_group = spec.n_nics if spec.fabric == "rails" else 1
        self.groups = int(self.group_of_node[-1]) + 1
        self.pods = int(node[-1] // per_pod) + 1
        self.leaves = self.groups * self.leaves_of_group
        self.leaves_of_pod = groups_of_pod * self.leaves_of_group
        self.most_leaves = min(self.leaves, self.leaves_of_pod)
        has_spines = self.pods > 1 or self.leaves > 1
        self.spines = self.pods * spec.spines if has_spines else 0
        self.cores = spec.cores if self.pods > 1 else 0


class _Builder:
    """Numbers the nodes, then lays the cables from the GPUs upwards."""

    def __init__(self, spec: Nodes) -> None:
        self.spec, self.shape, self.cables = spec, _Shape(spec), Cabling()
        self.gpus = np.arange(spec.n_gpus, dtype=np.int32)
        self.domains = -(-spec.nodes // spec.nodes_per_domain)
        self.gpus_of_domain = spec.nodes_per_domain * spec.gpus_per_node
        shape, is_out = self.shape, spec.fabric != "none"
        self.n_leaves, self.n_spines, self.n_cores = (
            (shape.leaves, shape.spines, shape.cores) if is_out else (0, 0, 0)
        )
        self.n_nvls = self.domains if spec.nvls else 0
        self.n_sharp = self.n_leaves + self.n_spines + self.n_cores if spec.sharp else 0
        self.n_hosts = spec.n_gpus + self.n_nvls + self.n_sharp
        self.n_up = {"switch": self.domains, "mesh": spec.n_gpus, "none": 0}[spec.scale_up]
        self.nics_of_node = min(spec.n_nics, spec.gpus_per_node)
        self.n_nics = spec.nodes * self.nics_of_node if spec.has_nic_nodes else 0
        self.up0 = self.n_hosts
        self.nic0 = self.up0 + self.n_up
        self.leaf0 = self.nic0 + self.n_nics
        self.spine0 = self.leaf0 + self.n_leaves
        self.core0 = self.spine0 + self.n_spines
        self.n_switches = self.core0 + self.n_cores - self.n_hosts

    def build(self) -> Topology:
        spec = self.spec
        if spec.scale_up != "none":
            self._scale_up()
        if spec.fabric != "none":
            self._interfaces()
            self._fabric()
        reducer = spec.n_gpus
        if spec.nvls:
            assert spec.scale_up_latency_ps is not None
            switches = np.arange(self.up0, self.up0 + self.n_up)
            reducer = self.cables.add_reducers(reducer, switches, spec.scale_up_latency_ps, SCALE_UP)
        if spec.sharp:
            assert spec.latency_ps is not None
            switches = np.arange(self.leaf0, self.leaf0 + self.n_sharp)
            self.cables.add_reducers(reducer, switches, spec.latency_ps)
        return self.cables.topology(
            spec.kind, self.n_hosts, self.n_switches, spec.n_gpus, self._latencies(), self._names()
        )

    def _scale_up(self) -> None:
        spec = self.spec
        rate, delay = spec.scale_up_rate_mbps, spec.scale_up_latency_ps
        assert rate is not None and delay is not None
        if spec.scale_up == "switch":
            self.cables.add(self.gpus, self.up0 + self.gpus // self.gpus_of_domain, rate, delay, SCALE_UP)
            return
        inside = spec.internal_latency_ps or delay
        self.cables.add(self.gpus, self.up0 + self.gpus, rate, inside, SCALE_UP)
        # A GPU has a link to each of the others of a full domain, and they share its rate.
        link_rate = max(rate // max(self.gpus_of_domain - 1, 1), 1)
        for domain in range(self.domains):
            first = self.up0 + domain * self.gpus_of_domain
            a, b = np.triu_indices(min(self.gpus_of_domain, self.nic0 - first), 1)
            self.cables.add(first + a, first + b, link_rate, delay, SCALE_UP)

    def _interfaces(self) -> None:
        spec, shape = self.spec, self.shape
        rate = spec.host_rate_mbps if spec.host_rate_mbps is not None else spec.rate_mbps
        assert rate is not None and spec.latency_ps is not None
        node = np.repeat(np.arange(spec.nodes), spec.n_nics)
        rail = np.tile(np.arange(spec.n_nics), spec.nodes)
        leaf = self.leaf0 + shape.group_of_node[node] * shape.leaves_of_group + rail % shape.leaves_of_group
        if not spec.has_nic_nodes:
            self.cables.add(self.gpus, leaf, rate, spec.latency_ps + spec.nic_latency_ps)
            return
        at_node, gpu = np.divmod(self.gpus, spec.gpus_per_node)
        nic = self.nic0 + at_node * self.nics_of_node + gpu * self.nics_of_node // spec.gpus_per_node
        uplinks = spec.n_nics // self.nics_of_node
        pcie = min(spec.pcie_rate_mbps or uplinks * rate, uplinks * rate)
        delay = spec.pcie_latency_ps if spec.pcie_latency_ps is not None else spec.latency_ps
        self.cables.add(self.gpus, nic, pcie, delay)
        self.cables.add(self.nic0 + np.arange(leaf.size) // uplinks, leaf, rate, spec.latency_ps)

    def _fabric(self) -> None:
        spec, shape = self.spec, self.shape
        rate = spec.fabric_rate_mbps if spec.fabric_rate_mbps is not None else spec.rate_mbps
        assert rate is not None and spec.latency_ps is not None
        if not self.n_spines:
            return
        for pod in range(shape.pods):
            first = pod * shape.leaves_of_pod
            leaves = min(shape.leaves_of_pod, shape.leaves - first)
            spine0 = self.spine0 + pod * spec.spines
            a, b = joints(self.leaf0 + first, leaves, spine0, spec.spines, spec.links_per_spine)
            self.cables.add(a, b, rate, spec.latency_ps)
        core_rate = spec.core_rate_mbps if spec.core_rate_mbps is not None else rate
        a, b = joints(self.spine0, self.n_spines, self.core0, self.n_cores, spec.links_per_core)
        self.cables.add(a, b, core_rate, spec.core_latency_ps or spec.latency_ps)

    def _latencies(self) -> Int64:
        spec = self.spec
        reducers = self.n_hosts - spec.n_gpus
        fabric = self.n_leaves + self.n_spines + self.n_cores
        values = [
            spec.host_latency_ps,
            0,
            spec.scale_up_switch_latency_ps,
            spec.nic_latency_ps,
            spec.switch_latency_ps,
        ]
        return np.repeat(np.array(values, np.int64), [spec.n_gpus, reducers, self.n_up, self.n_nics, fabric])

    def _names(self) -> list[str]:
        spec, shape = self.spec, self.shape
        gpus = [f"node{n}.gpu{g}" for n in range(spec.nodes) for g in range(spec.gpus_per_node)]
        up = [f"{gpu}.router" for gpu in gpus] if spec.scale_up == "mesh" else []
        if spec.scale_up == "switch":
            up = [f"domain{d}.switch" for d in range(self.domains)]
        nics = [f"node{n}.nic{i}" for n in range(spec.nodes) for i in range(self.nics_of_node)]
        fabric: list[str] = []
        if spec.fabric == "rails":
            fabric += [f"group{g}.leaf{r}" for g in range(shape.groups) for r in range(shape.leaves_of_group)]
        elif spec.fabric == "racks":
            fabric += [f"rack{g}.leaf" for g in range(shape.groups)]
        if spec.fabric != "none":
            pods = ["" if shape.pods == 1 else f"pod{p}." for p in range(shape.pods)]
            fabric += [f"{pod}spine{i}" for pod in pods for i in range(spec.spines if self.n_spines else 0)]
            fabric += [f"core{i}" for i in range(self.n_cores)]
        reducers = [f"domain{d}.nvls" for d in range(self.n_nvls)]
        reducers += [f"{name}.sharp" for name in fabric[: self.n_sharp]]
        return gpus + reducers + up + (nics if self.n_nics else []) + fabric
