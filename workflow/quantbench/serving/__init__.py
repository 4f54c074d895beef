"""Owning servers: lanes, leases, supervisors."""
