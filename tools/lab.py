"""Open JupyterLab on the first chapter: `make lab`."""
import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST_CHAPTER = ROOT / "nbs" / "01_data.ipynb"


def port_is_free(ip: str, port: int) -> bool:
    "Whether JupyterLab could listen there"
    with socket.socket() as probe:
        if os.name != "nt":  # as the server does: a port that was closed a moment ago counts as free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Open JupyterLab on the first chapter")
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--ip", default="127.0.0.1")
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    if not FIRST_CHAPTER.is_file():
        sys.exit(f"no {FIRST_CHAPTER.relative_to(ROOT)} here: this checkout is not whole, clone it again")
    if not port_is_free(options.ip, options.port):
        advice = f"close it, or take another port: make lab PORT={options.port + 1}"
        sys.exit(f"port {options.port} is taken (another JupyterLab?): {advice}")
    command = [sys.executable, "-m", "jupyterlab", f"--port={options.port}", "--ServerApp.port_retries=0"]
    command += [f"--ip={options.ip}", f"--ServerApp.root_dir={ROOT}"]
    # as the default address and not as an argument: then the address that is printed leads to the chapter as well
    command.append(f"--LabApp.default_url=/lab/tree/{FIRST_CHAPTER.relative_to(ROOT).as_posix()}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # root, as in most containers; Jupyter refuses otherwise
        command.append("--allow-root")
    if options.no_browser:
        command.append("--no-browser")
    try:
        return subprocess.call(command, cwd=ROOT)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
