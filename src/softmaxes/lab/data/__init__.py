"""Data sets for the lab: each source gives images or vectors, checked labels, names, counts, and groups if known."""
