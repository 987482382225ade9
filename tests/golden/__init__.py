"""Stored forms, as they were when they were first stored. A change here is a version bump and a changelog line."""
