"""What networks for microcontrollers hold."""
