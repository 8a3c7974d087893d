"""``python -m tvmc``: the same as the console command."""

import sys

from tvmc.cli import main

if __name__ == "__main__":
    sys.exit(main())
