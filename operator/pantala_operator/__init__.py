"""The operator watches Tasks and ImagePrefetches, sends statements to the supernodes, and writes statuses."""
