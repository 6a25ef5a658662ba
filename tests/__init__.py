"""The test suite; it mirrors `src/cory`."""
