"""``python -m scripts.board``."""

import sys

from scripts.board.command import main

if __name__ == "__main__":
    sys.exit(main())
