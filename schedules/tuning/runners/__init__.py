"""Where candidates run: this machine, boards behind an RPC tracker, whatever a command reaches."""
