"""Building candidates into a program, and what their measured times mean."""
