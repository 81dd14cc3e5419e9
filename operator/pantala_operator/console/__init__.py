"""The operator's console: a read-only endpoint on loopback with a web page, for people and kubectl pantala."""
