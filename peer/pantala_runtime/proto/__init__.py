"""Messages of the runtime's gRPC services, the subset in use. ``*_pb2`` is generated from the ``.proto`` beside it."""
