"""The part of the supernode that reads origins and keeps what they gave on the volume."""
