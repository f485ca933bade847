"""Imported by the command and its processes: no library speaks of what it does without, as matplotlib of its cache."""

import logging

logging.getLogger("matplotlib").setLevel(logging.ERROR)
