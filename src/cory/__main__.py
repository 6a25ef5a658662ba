"""`python -m cory` is `cory`."""

from cory.cli import main

if __name__ == "__main__":
    main()
