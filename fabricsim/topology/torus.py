"""Torus of chips in two or three dimensions, plain or twisted, as TPU pods are.

Sources: Jouppi et al., "TPU v4: an optically reconfigurable supercomputer", ISCA 2023 (cubes, circuit
switches, twisted tori); the scaling book of JAX, chapter on TPUs (wraparound on multiples of full cubes).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from fabricsim.fabrics.section import Issue, raise_issues
from fabricsim.topology.cabling import Cabling
from fabricsim.topology.cubes import Cubes
from fabricsim.topology.model import Int32, Topology
from fabricsim.topology.spec import MAX_HOSTS, Delay, Rate, TopologySpec

__all__ = ["Torus"]

Size = Annotated[int, Field(ge=1, le=1024)]


class Torus(TopologySpec):
    """Chips on a grid, each joined with its neighbours in every dimension.

    A chip is a host and its router, on an internal cable. Chip ``i`` is at ``i = x + X * (y + Y * z)``. A
    dimension whose size is a multiple of ``wrap_multiple`` is a ring; a smaller one is a line. A dimension of
    size 1 has no cables, and a ring of 2 has two between the same pair.

    In a twisted torus all sizes are k or 2k, and the wraparound of each dimension of size k moves on by k in
    every dimension of size 2k.

    **Ports.** A router has its host, then its cables in x, y and z. A cable in x runs from a chip to the next
    one up: of its two directed links the even one goes up.

    Parameters
    ----------
    x, y, z
        Sizes, >= 1; ``z`` defaults to 1.
    rate_mbps
        Rate of a link between chips, Mb/s one way.
    latency_ps
        Delay of a link between chips, ps, > 0; ``switch_latency_ps`` is that of a router.
    internal_rate_mbps
        Rate between a host and its router, Mb/s one way; default that of all links of a chip together.
    internal_latency_ps
        Delay between a host and its router, ps, > 0; default 100 ns.
    twisted
        Whether the wraparound of the short dimensions is twisted.
    wrap_multiple
        Sizes that are multiples of it wrap around; default 4, the size of a cube.
    pod_cubes
        Cubes of 4 x 4 x 4 chips that the pod has, spares included; default as many as the torus needs.
    failed_cubes
        Cubes of the pod that are out of service: the circuit switches put spares in their places.

    >>> torus = Torus(x=4, y=4, z=8, rate_mbps=360_000, latency_ps=500_000)
    >>> torus.build()
    Topology(torus: 128 hosts, 128 switches, 512 cables)
    >>> torus.cubes().shape
    (1, 1, 2)
    """

    summary: ClassVar[str] = "chips on a torus of two or three dimensions, plain or twisted"

    kind: Literal["torus"] = "torus"
    x: Size
    y: Size
    z: Size = 1
    rate_mbps: Rate
    latency_ps: Delay
    internal_rate_mbps: Rate | None = None
    internal_latency_ps: Delay = 100_000
    twisted: bool = False
    wrap_multiple: Annotated[int, Field(ge=1, le=1024)] = 4
    pod_cubes: Annotated[int, Field(ge=1, le=4096)] | None = None
    failed_cubes: Annotated[tuple[int, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        sizes, step = self.sizes, self.wrap_multiple
        if self.n_chips > MAX_HOSTS:
            issues.append(((), f"makes {self.n_chips:,} chips, allowed: at most {MAX_HOSTS:,}", None))
        for name, size in zip("xyz", sizes, strict=True):
            if size > step and size % step:
                text = f"found {size}, allowed: 1 to {step}, or a multiple of {step} (wrap_multiple)"
                issues.append(((name,), text, size))
        if self.twisted and not self._can_twist():
            form = " x ".join(map(str, sizes))
            text = f"found true with {form}, allowed: sizes k and 2k that wrap around, such as 4 x 4 x 8"
            issues.append((("twisted",), text, True))
        if not issues and (self.pod_cubes is not None or self.failed_cubes):
            issues += Cubes.problems(sizes, self.pod_cubes, self.failed_cubes)
        raise_issues(type(self).__name__, issues)
        return self

    def _can_twist(self) -> bool:
        sizes = set(self.sizes)
        short = min(sizes)
        return short > 1 and sizes == {short, 2 * short} and all(self.wraps)

    # ---- numbers

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The sizes in x, y and z."""
        return self.x, self.y, self.z

    @property
    def wraps(self) -> tuple[bool, ...]:
        """Whether each dimension is a ring."""
        return tuple(size > 1 and size % self.wrap_multiple == 0 for size in self.sizes)

    @property
    def n_chips(self) -> int:
        """Number of chips, which are the hosts."""
        return self.x * self.y * self.z

    def coordinates(self) -> Int32:
        """Return int32[3, n_chips], the place of each chip."""
        x, y, _ = self.sizes
        i = np.arange(self.n_chips, dtype=np.int32)
        return np.stack([i % x, i // x % y, i // (x * y)]).astype(np.int32)

    def next_up(self, dimension: int) -> Int32:
        """Return int32[n_chips], the neighbour of each chip one up in a dimension (0 to 2); -1 for none.

        >>> Torus(x=4, y=1, rate_mbps=1, latency_ps=1).next_up(0).tolist()
        [1, 2, 3, 0]
        """
        at = self.coordinates()
        sizes = self.sizes
        last = at[dimension] == sizes[dimension] - 1
        at[dimension] = np.where(last, 0, at[dimension] + 1)
        if self.twisted and sizes[dimension] == min(sizes):
            for other, size in enumerate(sizes):
                if size == 2 * sizes[dimension]:
                    at[other] = np.where(last, (at[other] + sizes[dimension]) % size, at[other])
        up = at[0] + sizes[0] * (at[1] + sizes[1] * at[2])
        return np.where(last & (not self.wraps[dimension]), -1, up).astype(np.int32)

    def cubes(self) -> Cubes:
        """Return the cubes of the torus and the circuit switches between them.

        Raises
        ------
        ConfigError
            When it is not made of cubes of 4 x 4 x 4 chips.
        """
        return Cubes(self.sizes, self.pod_cubes, self.failed_cubes)

    def route_parameters(self) -> dict[str, int]:
        """Return the sizes and the twist."""
        return {"x_count": self.x, "y_count": self.y, "z_count": self.z, "twisted": int(self.twisted)}

    # ---- building

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        n, cables = self.n_chips, Cabling()
        dimensions = [d for d in range(3) if self.sizes[d] > 1]
        own = 2 * max(len(dimensions), 1) * self.rate_mbps
        chips = np.arange(n, dtype=np.int32)
        cables.add(chips, n + chips, self.internal_rate_mbps or own, self.internal_latency_ps)
        for dimension in dimensions:
            up = self.next_up(dimension)
            has = up >= 0
            cables.add(n + chips[has], n + up[has], self.rate_mbps, self.latency_ps)
        places = [".".join(map(str, at)) for at in self.coordinates().T.tolist()]
        names = [f"chip{at}" for at in places] + [f"router{at}" for at in places]
        return cables.topology(self.kind, n, n, n, self.node_latency_ps(n, n), names)
