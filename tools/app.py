"""Show nbs/app.ipynb as a web app under Voila: `make app`."""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import lab

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "nbs" / "app.ipynb"
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}  # each page has a process: threads beside them would only wait for each other
MESSAGE_BYTES = 48_000_000  # the largest film that is taken, and what travels around it


def command(port: int, ip: str, users: int) -> list[str]:
    "Voila with a kernel for each page, some in store, idle ones ended, and room for a whole film in one message"
    words = [sys.executable, "-m", "voila", str(NOTEBOOK), f"--port={port}", f"--Voila.ip={ip}"]
    words += ["--preheat_kernel=True", f"--pool_size={users}", "--show_tracebacks=False"]
    words += [f"--Voila.tornado_settings={{'websocket_max_message_size': {MESSAGE_BYTES}}}"]
    words += ["--MappingKernelManager.cull_idle_timeout=1800", "--MappingKernelManager.cull_interval=60"]
    return words


def main() -> int:
    parser = argparse.ArgumentParser(description="Show the web app")
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--ip", default="127.0.0.1")
    parser.add_argument("--users", type=int, default=1, help="pages kept ready; each takes about 0.5 GB")
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    if not lab.port_is_free(options.ip, options.port):
        sys.exit(f"port {options.port} is taken: close what uses it, or take another: make app PORT={options.port + 1}")
    further = ["--no-browser"] if options.no_browser else []
    try:
        words = [*command(options.port, options.ip, options.users), *further]
        return subprocess.call(words, cwd=ROOT, env={**os.environ, **ENVIRONMENT})
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
