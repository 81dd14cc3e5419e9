"""The transfer engine: threads that receive and send pieces, while the event loop decides."""
