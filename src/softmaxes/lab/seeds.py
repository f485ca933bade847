"""Seeds: one for each purpose, the same on any machine."""

import hashlib


def stream(*words: object) -> int:
    """A seed for each purpose: the same words give the same one, on any machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, words)).encode()).digest()[:8], "big") >> 1
