"""The otel-exporter: every loop a true trace."""
