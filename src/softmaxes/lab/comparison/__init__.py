"""Comparing heads: runs chosen, tuned, executed and reported."""
