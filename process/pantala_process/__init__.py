"""What all processes share: settings, logs, start and stop, health, metrics, HTTP, and back-off."""
