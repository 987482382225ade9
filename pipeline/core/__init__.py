"""The decisions, as pure functions and frozen values: no clock, environment, network, disk or logging."""
