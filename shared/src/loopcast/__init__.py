"""Loopcast."""
