"""The administrator's list of registries and their endpoints, and the order in which endpoints are tried."""
