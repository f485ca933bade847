"""The command ``softmaxes`` as ``python -m softmaxes``."""

import sys

from softmaxes.lab import main

if __name__ == "__main__":
    sys.exit(main())
