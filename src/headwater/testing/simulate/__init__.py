"""A simulation of the whole broker, driven by a seed, and a checker of what its clients saw. See README.md."""
