"""Build the native core: plain C under ext/csrc, one thin Cython module a concept."""

import os
import platform
import shlex
import sys
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

MACHINES = ("x86_64", "aarch64")
if sys.platform != "linux" or platform.machine() not in MACHINES:
    raise SystemExit(
        "ringwalk needs Linux on x86-64 or aarch64 (futex, memfd and pidfd are Linux calls); "
        f"this is {sys.platform} on {platform.machine()}. Build it in a Linux container or VM."
    )

# The last two warnings are about code that Cython generates.
CFLAGS = ["-std=c11", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra"]
CFLAGS += ["-Wno-unused-parameter", "-Wno-sign-compare"]
# setuptools puts the user's before ours, and of two that contradict each other the last one counts.
CFLAGS += shlex.split(os.environ.get("CFLAGS", ""))

# A concept keeps its name everywhere: csrc/ring.c, _core/ring.pyx, _core/ring.pyi.
SOURCES = {
    "arena": ["arena", "headroom"],
    "event": ["eventcount", "futex"],
    "ring": ["ring"],
    "board": ["board", "ring", "eventcount", "futex", "patience"],
    "consumer": ["board", "ring", "eventcount", "futex", "patience"],
    "headroom": ["headroom"],
    "ownership": ["ownership"],
    "heap": ["heap", "arena", "headroom"],
    "allocator": [],
    "process": ["process", "template"],
    "spawn": ["spawn"],
    "rows": [],
    "chain": [],
    "encoder": [],
    "decoder": [],
    "leash": [],
    "private": [],
    "window": [],
}

EXTENSIONS = [
    Extension(
        f"ringwalk._core.{name}",
        [f"ext/ringwalk/_core/{name}.pyx", *(f"ext/csrc/{c}.c" for c in csrc)],
        include_dirs=["ext/csrc", numpy.get_include()],
        depends=sorted(glob("ext/csrc/*.h")),
        define_macros=[("NPY_TARGET_VERSION", "NPY_1_23_API_VERSION")],
        extra_compile_args=CFLAGS,
        # pthread_atfork is not in the C library itself before glibc 2.34.
        extra_link_args=["-pthread"] if name == "ownership" else [],
    )
    for name, csrc in SOURCES.items()
]

setup(
    ext_modules=cythonize(
        EXTENSIONS,
        include_path=["ext"],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "auto_pickle": False,
            "autotestdict": False,
            "embedsignature": False,
            "freethreading_compatible": True,  # what that rests on: ext/DESIGN.md
            "boundscheck": False,
            "wraparound": False,
        },
    ),
)
