"""loopcast_recorder."""
