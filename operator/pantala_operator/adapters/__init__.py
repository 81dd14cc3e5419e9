"""What the operator needs of the world, made of real parts and of fakes."""
