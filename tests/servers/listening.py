"""Whether somebody listens on a port."""

import socket


def listens(host: str, port: int) -> bool:
    """True when a connection is taken."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
