"""Cubes of 4 x 4 x 4 chips and the optical circuit switches between their faces.

Every face of a cube has 16 links. Circuit switch ``16 * dimension + position`` takes both links of that
position on the two faces of that dimension from every cube of the pod: 48 switches of two ports a cube. The
links inside a cube are copper. As any face can be joined with any other of its dimension, a cube that fails
is replaced by any other of the pod.

Source: Jouppi et al., "TPU v4: an optically reconfigurable supercomputer", ISCA 2023, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fabricsim.errors import ConfigError
from fabricsim.fabrics.section import Issue
from fabricsim.topology.model import Int32, Topology

__all__ = [
    "CHIPS_PER_CUBE",
    "CUBE",
    "OCS_COUNT",
    "Cubes",
    "cube_availability",
    "slice_goodput",
    "wired_goodput",
]

#: The chips of an edge of a cube, and of a cube.
CUBE = 4
CHIPS_PER_CUBE = CUBE**3
#: Circuit switches of a pod: one for each of the 16 positions of a face in each of three dimensions.
OCS_COUNT = 3 * CUBE * CUBE


class Cubes:
    """The cubes of a torus.

    Parameters
    ----------
    sizes
        Chips in x, y and z, multiples of 4.
    pod_cubes
        Cubes of the pod; None: as many as the torus has.
    failed
        Cubes of the pod that are out of service.

    Raises
    ------
    ConfigError
        When the torus is not made of cubes, or there are not enough of them.

    >>> cubes = Cubes((8, 8, 8), pod_cubes=9, failed=[3])
    >>> cubes.physical.tolist()
    [0, 1, 2, 8, 4, 5, 6, 7]
    """

    def __init__(
        self, sizes: tuple[int, int, int], pod_cubes: int | None = None, failed: Sequence[int] = ()
    ) -> None:
        wrong = self.problems(sizes, pod_cubes, failed)
        if wrong:
            raise ConfigError([f"{'.'.join(map(str, loc)) or 'torus'}: {text}" for loc, text, _ in wrong])
        self.sizes = sizes
        #: Cubes in x, y and z.
        self.shape = (sizes[0] // CUBE, sizes[1] // CUBE, sizes[2] // CUBE)
        self.count = self.shape[0] * self.shape[1] * self.shape[2]
        self.pod_cubes = pod_cubes or self.count
        #: int32[count], the cube of the pod that stands in each place of the torus.
        self.physical = self._place(set(failed))

    @staticmethod
    def problems(sizes: tuple[int, int, int], pod_cubes: int | None, failed: Sequence[int]) -> list[Issue]:
        """Find what is wrong: places are fields of the torus."""
        if any(size % CUBE for size in sizes):
            form = " x ".join(map(str, sizes))
            return [((), f"has no cubes: found {form}, allowed: multiples of {CUBE} in each dimension", None)]
        needed = sizes[0] * sizes[1] * sizes[2] // CHIPS_PER_CUBE
        total = pod_cubes or needed
        outside = [cube for cube in failed if not 0 <= cube < total]
        if outside:
            return [(("failed_cubes",), f"found {outside[0]}, allowed: cubes 0 to {total - 1}", list(failed))]
        left = total - len(set(failed))
        if left < needed:
            text = f"leaves {left} of {total} cubes, allowed: at least {needed}, those of the torus"
            return [(("failed_cubes",) if failed else ("pod_cubes",), text, list(failed))]
        return []

    def _place(self, failed: set[int]) -> Int32:
        spares = iter(cube for cube in range(self.count, self.pod_cubes) if cube not in failed)
        return np.array([next(spares) if cube in failed else cube for cube in range(self.count)], np.int32)

    def of_chip(self) -> Int32:
        """Return int32[n_chips], the place of the cube of each chip: ``cx + CX * (cy + CY * cz)``."""
        at = self._coordinates() // CUBE
        return np.asarray(at[0] + self.shape[0] * (at[1] + self.shape[1] * at[2]), np.int32)

    def _coordinates(self) -> Int32:
        x, y, z = self.sizes
        i = np.arange(x * y * z, dtype=np.int32)
        return np.stack([i % x, i // x % y, i // (x * y)]).astype(np.int32)

    def ocs_of_cable(self, topology: Topology) -> npt.NDArray[np.int8]:
        """Return int8[n_cables], the circuit switch that a cable goes through, 0 to 47; -1 for copper.

        Parameters
        ----------
        topology
            What the torus built: a cable between routers starts at the lower chip.
        """
        n = topology.n_hosts
        ocs = np.full(topology.n_cables, -1, np.int8)
        at = self._coordinates()
        between = np.flatnonzero(topology.cable_a >= n)
        low, high = topology.cable_a[between] - n, topology.cable_b[between] - n
        # The dimension of a cable is the one in which it goes one up (or around); a twist changes others too.
        step = (at[:, high] - at[:, low]) % np.array(self.sizes)[:, None]
        dimension = np.argmax(step == 1, axis=0)
        for d in range(3):
            others = [o for o in range(3) if o != d]
            position = at[others[0], low] % CUBE + CUBE * (at[others[1], low] % CUBE)
            face = (dimension == d) & (at[d, low] % CUBE == CUBE - 1)
            ocs[between[face]] = (CUBE * CUBE * d + position[face]).astype(np.int8)
        return ocs

    def face_cables(self, topology: Topology, place: int) -> Int32:
        """Return int32[n], the cables between the cube at a place of the torus and its neighbours.

        They go dark when the circuit switches put another cube there. A cube that is joined with itself by a
        wraparound has each such cable once.
        """
        cube = self.of_chip()
        n = topology.n_hosts
        optical = np.flatnonzero(self.ocs_of_cable(topology) >= 0)
        ends = cube[topology.cable_a[optical] - n], cube[topology.cable_b[optical] - n]
        return optical[(ends[0] == place) | (ends[1] == place)].astype(np.int32)


def cube_availability(host_availability: float, hosts_per_cube: int = 16) -> float:
    """Return the share of time that a cube is up, which needs all of its hosts.

    Parameters
    ----------
    host_availability
        Share of time that a host is up, 0 to 1.
    hosts_per_cube
        Hosts of a cube, each of which serves 4 chips; >= 1.

    Raises
    ------
    ValueError
        On a share out of range.

    >>> [round(cube_availability(a), 3) for a in (0.99, 0.995, 0.999)]
    [0.851, 0.923, 0.984]
    """
    if not 0 <= host_availability <= 1:
        raise ValueError(f"host_availability: found {host_availability}, allowed: 0 to 1")
    return float(host_availability**hosts_per_cube)


def slice_goodput(host_availability: float, slice_cubes: int, pod_cubes: int = 64) -> float:
    """Return the mean share of a pod that works in slices, where circuit switches join any cubes that are up.

    Parameters
    ----------
    host_availability
        Share of time that a host is up, 0 to 1.
    slice_cubes
        Cubes of a slice, 1 to ``pod_cubes``.
    pod_cubes
        Cubes of the pod.

    >>> round(slice_goodput(0.999, 16), 3), round(wired_goodput(0.999, 16), 3)
    (0.84, 0.774)
    """
    p = cube_availability(host_availability)
    if not 1 <= slice_cubes <= pod_cubes:
        raise ValueError(f"slice_cubes: found {slice_cubes}, allowed: 1 to {pod_cubes}")
    mean = 0.0
    for up in range(pod_cubes + 1):
        chance = math.comb(pod_cubes, up) * p**up * (1 - p) ** (pod_cubes - up)
        mean += chance * (up // slice_cubes) * slice_cubes / pod_cubes
    return mean


def wired_goodput(host_availability: float, slice_cubes: int) -> float:
    """Return the mean share of a pod that works in slices whose cubes are wired once and for all.

    Such a slice is up while all of its cubes are.
    """
    return cube_availability(host_availability) ** slice_cubes
