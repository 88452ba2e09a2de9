"""`python -m kzoo` is the `kzoo` command."""
import sys

from kzoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
