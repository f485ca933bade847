"""Use of what was trained: a run's classifier from its folder, what it says of new inputs, and files for serving it."""
