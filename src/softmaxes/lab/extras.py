"""Packages that come with an extra, and may not be there."""

from softmaxes.files import InputError


def not_installed(where: str, package: str, extra: str, why: str = "") -> InputError:
    """The error that a package is missing, and what brings it.

    Args:
        where: what the error begins with.
        package: what is missing.
        extra: of softmaxes, which has it.
        why: what it is needed for, as a part of the sentence.
    """
    needed = f"{package}, {why}," if why else f"{package},"
    return InputError(f"{where}: expected the package {needed} got none; install it: pip install 'softmaxes[{extra}]'.")
