"""What a user's program imports to send events."""
