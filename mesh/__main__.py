"""`python -m mesh` is `unmute`."""

import sys

from mesh.cli import main

# Processes that are spawned import this file again.
if __name__ == "__main__":
    sys.exit(main())
