"""Local optimisations from many starts: sample, explore, optimise, and what is told of it."""
