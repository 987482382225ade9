"""Consumer processes as processes."""
