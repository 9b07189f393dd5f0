"""`python -m jupyter_aios.controller`: started by the client; harmless to start by hand."""

from __future__ import annotations

from jupyter_aios.controller.lifecycle import main

if __name__ == "__main__":
    main()
