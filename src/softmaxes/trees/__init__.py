"""Class hierarchies in flat arrays."""
