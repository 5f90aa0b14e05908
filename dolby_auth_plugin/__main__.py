"""The entry point of `dolby-auth` and `python -m dolby_auth_plugin`. A missing extra prints a message, no traceback."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from .cli import main as command
    except ImportError as error:
        sys.exit(str(error))
    command(prog_name="dolby-auth")


if __name__ == "__main__":
    main()
