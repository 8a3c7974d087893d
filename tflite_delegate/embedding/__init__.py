"""Packed weights as read-only data of the delegate's library."""
