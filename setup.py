"""The decoder's steps in C, built where there is a C compiler; all else that pip needs stands in pyproject.toml."""

from setuptools import Extension, setup

NATIVE = "src/limbnet/decode/native"

setup(
    ext_modules=[
        Extension(
            "limbnet.decode._native",
            sources=[f"{NATIVE}/{name}.c" for name in ("limbs", "module", "peaks", "people")],
            depends=[f"{NATIVE}/kernels.h"],
            # Products are rounded before they are added, as in NumPy; rounding and roots are the processor's own.
            extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno"],
            py_limited_api=True,
            optional=True,  # without a compiler limbnet installs all the same and decodes with NumPy
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
