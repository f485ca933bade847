"""The compiled halves, which are left out where there is no C++ compiler; all else is in pyproject.toml."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildLibrary(build_ext):
    """Builds a plain shared library, loaded by ctypes: it has no function that Python would import."""

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None but the file's own."""
        return list(ext.export_symbols)

    def build_extensions(self) -> None:
        """With optimisation, as each compiler writes it."""
        # No -ffast-math: what is no number must stay none. Errors of mathematics are not looked up in errno.
        options = ["/O2"] if self.compiler.compiler_type == "msvc" else ["-O3", "-fno-math-errno"]
        for extension in self.extensions:
            extension.extra_compile_args = options
        super().build_extensions()


setup(
    ext_modules=[
        Extension(
            "softmaxes.heads.hierarchical._compiled",
            ["src/softmaxes/heads/hierarchical/compiled.cpp"],
            language="c++",
            depends=["src/softmaxes/native.h"],
            optional=True,
        ),
        Extension(
            "softmaxes._rows",
            ["src/softmaxes/rows.cpp"],
            language="c++",
            depends=["src/softmaxes/native.h"],
            optional=True,
        ),
        Extension(
            "softmaxes._rounded",
            ["src/softmaxes/rounded.cpp"],
            language="c++",
            depends=["src/softmaxes/native.h"],
            optional=True,
        ),
    ],
    cmdclass={"build_ext": BuildLibrary},
)
