"""Local servers and small inputs that several tests use."""
