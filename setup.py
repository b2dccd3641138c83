"""Builds himakernels._core, the C++ CPU route (everything else stands in pyproject.toml)."""

import sys
from glob import glob

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

# No -march: the hot loops are compiled per instruction set inside the sources and chosen at run time.
# Rows of fp32 are overwritten in place with bf16, so memory may change its type.
compile_args = [
    "-O3",
    "-fno-strict-aliasing",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
]
link_args: list[str] = []
if sys.platform == "linux":
    compile_args.append("-pthread")
    link_args.append("-pthread")

ParallelCompile().install()  # a compiler for each core

setup(
    ext_modules=[
        Pybind11Extension(
            "himakernels._core",
            sorted(glob("csrc/*.cpp")),
            depends=sorted(glob("csrc/*.h")),
            cxx_std=17,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ],
    cmdclass={"build_ext": build_ext},
)
