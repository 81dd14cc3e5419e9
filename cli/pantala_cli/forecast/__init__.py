"""What a Task or an ImagePrefetch would do, before it exists. Pure."""
