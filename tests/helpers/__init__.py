"""Stand-ins and small inputs that several tests share."""
