"""loopcast_webhook_forwarder."""
