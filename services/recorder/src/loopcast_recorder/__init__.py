"""The recorder: every event on disk, once."""
