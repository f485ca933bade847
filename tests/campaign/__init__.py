"""The campaign: bad input, odd surroundings and kills, tried on every reader and verb. `make campaign` runs it."""
