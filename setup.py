"""Builds the compiled core: plain C under csrc/ and one thin Cython module over it."""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = sorted(glob("csrc/*/*.c"))
HEADERS = sorted(glob("csrc/*/*.h"))

core = Extension(
    "fabricsim._core.engine",
    sources=["fabricsim/_core/engine.pyx", *SOURCES],
    depends=[*HEADERS, "fabricsim/_core/core.pxd", "fabricsim/_core/inputs.pxi", "fabricsim/_core/flow.pxi"],
    include_dirs=["csrc", "csrc/include"],
    define_macros=[("_POSIX_C_SOURCE", "200809L"), ("CYTHON_TRACE", "0")],
    # Fewest instructions a packet-hop of the flags tried (benches/README.md): the hot loops are short.
    # -ffp-contract=off: no result may depend on whether a compiler fuses a multiply and an add.
    extra_compile_args=[
        "-std=c11",
        "-O2",
        "-fno-tree-vectorize",
        "-fno-gcse",
        "-ffp-contract=off",
        "-Wall",
        "-pthread",
        *os.environ.get("FABRICSIM_CFLAGS", "").split(),
    ],
    extra_link_args=["-pthread"],
)

setup(
    ext_modules=cythonize(
        [core], language_level=3, compiler_directives={"binding": True, "embedsignature": True}
    )
)
