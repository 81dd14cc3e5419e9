"""The used messages of the runtime's gRPC services. ``generate.py`` makes each ``*_pb2`` from a ``.proto`` file."""
