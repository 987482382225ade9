"""The simulator: the real loader over in-memory ports, every fault chosen by a seed, every row accounted for."""
