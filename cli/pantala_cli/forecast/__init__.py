"""What a Task or an ImagePrefetch would do if it were applied. Pure."""
