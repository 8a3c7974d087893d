"""Where programs run: this machine, a command, boards behind an RPC tracker."""
