"""Relays: what reads the events of a loop that knows nothing of Loopcast, and hands them to the SDK."""
