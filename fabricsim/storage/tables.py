"""The tables inside ``[[storage]]``: layouts, directories, slow targets, failures of servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fabricsim.fabrics.section import Issue, Section, raise_issues
from fabricsim.units import INT64_MAX

__all__ = ["ALL", "Component", "Directory", "Failure", "Layout", "Slow", "is_under"]

#: As a stripe count: all targets; as stripes of a directory: all metadata servers.
ALL = -1

#: What the core holds of a layout; as FAB_LAYOUT_COMPONENTS_MAX and FAB_LAYOUT_MIRRORS_MAX of store/layout.h.
COMPONENTS_MAX, MIRRORS_MAX = 8, 4


_MOST_PS = INT64_MAX // 8

Time = Annotated[int, Field(ge=0, le=_MOST_PS)]
Length = Annotated[int, Field(gt=0, le=_MOST_PS)]
Size = Annotated[int, Field(ge=4096, le=2**44)]
Stripes = Annotated[int, Field(ge=ALL, le=2000)]
Path = Annotated[str, Field(min_length=1)]


def is_under(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it.

    >>> is_under("/a/b", "/a"), is_under("/ab", "/a"), is_under("/a", "/")
    (True, False, True)
    """
    stem = folder.rstrip("/")
    return path == stem or path.startswith(stem + "/")


class _Striped(Section):
    """What components and layouts of one component share."""

    stripe_size_bytes: Size | None = None
    stripe_count: Stripes | None = None
    first_target: Annotated[int, Field(ge=0, le=65_535)] | None = None
    on_meta: bool = False

    @classmethod
    def short_fields(cls) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        """Return the short names; ``stripe_count`` is the field's own term, and has none."""
        return {key: value for key, value in super().short_fields().items() if key != "stripe"}

    def _stripe_issues(self) -> list[Issue]:
        issues: list[Issue] = []
        if self.stripe_size_bytes is not None and self.stripe_size_bytes % 4096:
            text = f"found {self.stripe_size_bytes}, allowed: a multiple of 4096 bytes"
            issues.append((("stripe_size",), text, self.stripe_size_bytes))
        if self.stripe_count == 0:
            text = "found 0, allowed: 1 or more, or -1 for all targets"
            issues.append((("stripe_count",), text, 0))
        if self.on_meta and (self.stripe_count not in (None, 1) or self.first_target is not None):
            text = "found true, allowed: without stripe_count and first_target; the metadata server keeps it"
            issues.append((("on_meta",), text, True))
        return issues


class Component(_Striped):
    """A part of a file with stripes of its own.

    Parameters
    ----------
    end_bytes
        Where it ends, bytes of the file; left out in the last one, which goes as far as the file.
    stripe_size_bytes, stripe_count
        Bytes of a stripe and number of objects; -1: one on every target, more than targets: overstriped.
        Those of the file system where they are left out.
    first_target
        Target of the first object; the allocator's choice where it is left out.
    on_meta
        Whether the metadata server keeps it (data on MDT).
    """

    end_bytes: Annotated[int, Field(gt=0, le=INT64_MAX)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        raise_issues("Component", self._stripe_issues())
        return self


class Layout(_Striped):
    """How files under a path are laid out.

    Parameters
    ----------
    path
        The path; the longest that holds a file counts.
    components
        The parts of a file, in order (a progressive layout); or
    stripe_size_bytes, stripe_count, first_target, on_meta
        those of its only part.
    mirrors
        Copies of the whole file, each with these components on targets of its own; 1 to 4.

    >>> layout = Layout.model_validate({"path": "/ckpt", "stripe_count": -1, "stripe_size": "4MiB"})
    >>> [(part.stripe_count, part.stripe_size_bytes) for part in layout.parts()]
    [(-1, 4194304)]
    """

    path: Path
    components: Annotated[tuple[Component, ...], Field(strict=False)] = ()
    mirrors: Annotated[int, Field(ge=1, le=MIRRORS_MAX)] = 1

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues = self._stripe_issues()
        names = ("stripe_size_bytes", "stripe_count", "first_target")
        own = [name for name in names if getattr(self, name) is not None]
        if self.components and (own or self.on_meta):
            text = "allowed: components, or the stripes of a layout of one part; not both"
            issues.append((("components",), text, None))
        if len(self.components) * self.mirrors > COMPONENTS_MAX:
            found = f"{len(self.components)} components of {self.mirrors} mirrors"
            text = f"found {found}, allowed: {COMPONENTS_MAX} in all"
            issues.append((("components",), text, len(self.components)))
        before = 0
        for i, part in enumerate(self.components):
            last = i == len(self.components) - 1
            if last and part.end_bytes is not None:
                text = "allowed: without it in the last component, which goes as far as the file"
                issues.append((("components", i, "end"), text, part.end_bytes))
            elif not last and part.end_bytes is None:
                text = "missing, allowed: left out in the last component alone"
                issues.append((("components", i, "end"), text, None))
            elif part.end_bytes is not None and part.end_bytes <= before:
                text = f"found {part.end_bytes}, allowed: more than the end before, {before}"
                issues.append((("components", i, "end"), text, part.end_bytes))
            before = part.end_bytes or before
            if part.on_meta and i:
                text = "found true, allowed: in the first component alone"
                issues.append((("components", i, "on_meta"), text, True))
        raise_issues("Layout", issues)
        return self

    def parts(self) -> tuple[Component, ...]:
        """Return the components, one where the layout gives its stripes itself."""
        if self.components:
            return self.components
        fields = {name: getattr(self, name) for name in _Striped.model_fields}
        return (Component(**fields),)


class Directory(Section):
    """A directory, and those in it, that several metadata servers share.

    Parameters
    ----------
    path
        The path of the directory.
    stripes
        Over how many metadata servers its entries are spread; -1: all.
    """

    path: Path
    stripes: Stripes

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.stripes == 0:
            text = "found 0, allowed: 1 or more, or -1 for all metadata servers"
            raise_issues("Directory", [(("stripes",), text, 0)])
        return self


class Slow(Section):
    """A target that is slower from a time on.

    Parameters
    ----------
    target
        Number of the target.
    factor_ppm
        At what share of its rate it serves, ppm, > 0; 1,000,000 is whole again. Short: ``factor = 0.25``.
    at_ps
        From when on, ps; default the start.
    for_ps
        For how long, ps; for good where it is left out.

    >>> Slow.model_validate({"target": 3, "factor": "20%", "at": "1s", "for": "2s"}).rows()
    [(1000000000000, 3, 200000), (3000000000000, 3, 1000000)]
    """

    target: Annotated[int, Field(ge=0, le=65_535)]
    factor_ppm: int
    at_ps: Time = 0
    for_ps: Length | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not 1 <= self.factor_ppm <= 1_000_000:
            text = f"found {self.factor_ppm / 1_000_000:g}, allowed: more than 0, up to 1"
            raise_issues("Slow", [(("factor",), text, self.factor_ppm)])
        return self

    def rows(self) -> list[tuple[int, int, int]]:
        """Return (when_ps, target, ppm) of the core."""
        rows = [(self.at_ps, self.target, self.factor_ppm)]
        if self.for_ps is not None:
            rows.append((self.at_ps + self.for_ps, self.target, 1_000_000))
        return rows


class Failure(Section):
    """A server that fails: it forgets what it had not on stable storage.

    Parameters
    ----------
    server
        Its name, such as ``oss0`` or ``mds0``.
    at_ps
        When, ps.
    back_ps
        After how long it is there again, ps; of a server without a partner.
    takeover_ps
        After how long its partner has taken its targets over, ps.
    """

    server: str
    at_ps: Time
    back_ps: Length | None = None
    takeover_ps: Length | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.back_ps is None) == (self.takeover_ps is None):
            text = "allowed: one of back (it starts again) and takeover (by its partner)"
            raise_issues("Failure", [((), text, None)])
        return self

    @property
    def up_ps(self) -> int:
        """When its targets are served again, ps."""
        return self.at_ps + (self.back_ps or self.takeover_ps or 0)
