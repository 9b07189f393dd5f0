"""The one process that decides, remembers and enforces."""
