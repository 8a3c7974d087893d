"""What was tried and measured, a line a trial, and on which board."""
