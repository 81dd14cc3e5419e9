"""The operator's console: a read-only endpoint on loopback with a web page, for browsers and ``kubectl pantala``."""
