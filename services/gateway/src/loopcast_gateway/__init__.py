"""loopcast_gateway."""
