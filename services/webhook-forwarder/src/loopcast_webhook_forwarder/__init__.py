"""The webhook-forwarder: delivered, or in the dead letters."""
