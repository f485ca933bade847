"""Where rendered and downloaded data are kept."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def cache_dir() -> Path:
    """Where rendered and downloaded data is kept: ``$SOFTMAXES_CACHE``, or ``softmaxes`` in the user's cache folder."""
    if chosen := os.environ.get("SOFTMAXES_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("softmaxes")
