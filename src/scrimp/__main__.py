"""The `scrimp` command. It needs the extra `suite`; an installation of the drop-ins alone says so."""

from __future__ import annotations

import sys

from scrimp.fork_server import handed_over


def main() -> None:
    """Run the command, or name what has to be installed first."""
    if sys.platform == "win32":
        sys.exit("error: scrimp's command runs on Linux and macOS (on Windows inside WSL); its drop-ins run anywhere")
    if (status := handed_over(sys.argv[1:])) is not None:
        sys.exit(status)
    try:
        from scrimp.cli import main as run
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "scrimp":
            raise
        sys.exit(f"error: the module {error.name} is missing: the command needs `pip install 'scrimp[suite]'`")
    run()


if __name__ == "__main__":
    main()
