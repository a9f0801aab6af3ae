"""The gateway: fans the event log out to WebSocket and HTTP clients."""
