"""``python -m fabricsim`` is the command ``fabricsim``."""

import sys

from fabricsim.cli import main

if __name__ == "__main__":
    sys.exit(main())
