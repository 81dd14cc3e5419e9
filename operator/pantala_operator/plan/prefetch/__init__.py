"""The plan of an ImagePrefetch: pure, one small decision a module, joined in ``plan``."""
