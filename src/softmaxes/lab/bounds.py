"""Numbers that an option cannot be."""

from softmaxes.files import InputError


def check_between(option: str, value: int | None, least: int, most: int) -> None:
    """Refuse a number beyond the bounds, if it is given; the error says which bound."""
    if value is not None and not least <= value <= most:
        bound = f"{least:,} or more" if value < least else f"{most:,} or less"
        raise InputError(f"{option}: expected {bound}, got {number(value)}.")


def check_range(option: str, value: int, least: int, most: int) -> None:
    """Refuse a number beyond the bounds; the error says both."""
    if not least <= value <= most:
        raise InputError(f"{option}: expected {least:,} to {most:,}, got {value:,}.")


def number(value: int) -> str:
    """A number as a reader reads it; Python refuses to write one of thousands of digits."""
    if abs(value) < 10**20:
        return f"{value:,}"
    return "more than 10^20" if value > 0 else "less than -10^20"
