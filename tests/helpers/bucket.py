"""A server of buckets in a process of its own, while a test needs one."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

NAME = "bucket"
SERVER = Path(__file__).with_name("bucket_server.py")


def variables(port):
    """What leads gcsfs and tensorstore, of this process or of others, to the server."""
    address = f"http://127.0.0.1:{port}"
    leading = {"STORAGE_EMULATOR_HOST": address, "TENSORSTORE_GCS_HTTP_URL": address}
    return leading | {"GOOGLE_AUTH_TOKEN_FOR_TESTING": "token"}


@contextlib.contextmanager
def served(log):
    """The port. The server's words are in the file `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as file:
        server = subprocess.Popen([sys.executable, SERVER, str(port), NAME], stdout=file, stderr=file)
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/storage/v1/b/{NAME}", timeout=10).close()
                break
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()
