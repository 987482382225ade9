"""Where facts go: JSON lines, CloudWatch's documents in them, and a page for Prometheus."""
