"""Where registries are reached: the administrator's list, and the order in which endpoints are tried."""
