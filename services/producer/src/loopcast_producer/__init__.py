"""loopcast_producer."""
