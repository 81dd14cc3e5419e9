"""What all processes share: settings, logs, start and stop, health, metrics, and asking over HTTP."""
