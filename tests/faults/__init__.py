"""Faults on the wire: a proxy in front of the emulators, and the plans by which it misbehaves."""
