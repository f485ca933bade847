"""Lightning's Fabric. Its import asks for the version of torchmetrics by importing it, which takes over a second.

Nothing here needs that package, so that it is hidden meanwhile.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_hidden = "torchmetrics" not in _modules
if _hidden:
    _modules["torchmetrics"] = None
try:
    from lightning_fabric import Fabric as Fabric
finally:
    if _hidden:
        del _modules["torchmetrics"]
