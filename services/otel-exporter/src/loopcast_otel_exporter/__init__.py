"""loopcast_otel_exporter."""
