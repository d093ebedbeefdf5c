"""The playground in a browser: ``python -m ste_lightning.playground [--port N] [--write FILE]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.whole_file import write_text
from ste_lightning.playground import page

__all__ = ["main", "server"]

_LOOPBACK = "127.0.0.1"


class _Handler(BaseHTTPRequestHandler):
    """Answers ``/`` with the page, and knows nothing else."""

    def do_GET(self) -> None:
        """Send the page."""
        found = self.path.partition("?")[0] == "/"
        body = page().encode() if found else b"not here\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", f"text/{'html' if found else 'plain'}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing of requests."""


def server(port: int) -> ThreadingHTTPServer:
    """Return a server of the page on this machine's loopback; port 0 takes a free one.

    Raises:
        ConfigurationError: for a port that is taken or is none.
    """
    try:
        return ThreadingHTTPServer((_LOOPBACK, port), _Handler)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"--port {port} cannot be used: {said}. Use another, or 0 for any."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes it from the process.

    Returns:
        The exit status: 0, or 1 where the port or the file cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ste_lightning.playground",
        description="Watch a binary student learn from its teacher, in a browser.",
    )
    parser.add_argument("--port", type=int, default=8000, help="on the loopback; default 8000")
    parser.add_argument("--write", metavar="FILE", help="write the page there and stop")
    options = parser.parse_args(arguments)
    try:
        if options.write is not None:
            write_text(Path(options.write), page())
            print(options.write)
            return 0
        with server(options.port) as serving:
            print(f"http://{_LOOPBACK}:{serving.server_port}/   (Ctrl-C ends it)", flush=True)
            serving.serve_forever()
    except KeyboardInterrupt:
        print()
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
