"""Training one classifier, from a run to its result."""
