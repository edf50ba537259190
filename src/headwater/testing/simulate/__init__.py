"""A simulation of the whole broker from a seed, and a checker of what clients saw. See README.md."""
