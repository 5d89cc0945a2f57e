"""Make the virtual environment that every `make` target uses, and say in one line what is wrong if it cannot be made.

    python tools/environment.py [--venv .venv] [--torch-index URL]

Safe to repeat: a complete environment is left alone. Everything goes into the environment's folder.
(Kept in a syntax that an old Python can read, so that it can say that it is too old.)
"""
import argparse
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 10), (3, 13)
GIGABYTE = 1e9
# Download and disk in GB: PyTorch for NVIDIA GPUs (what PyPI serves on Linux), and its builds for the CPU only.
GPU_BUILD, CPU_BUILD = (3.2, 8), (0.5, 3)


def stop(message):
    "End with one line"
    sys.stderr.write(message + "\n")
    sys.exit(1)


def check_python():
    "The Python that runs this file becomes the environment's"
    found = sys.version_info[:2]
    if found < OLDEST:
        stop(
            "Python %d.%d at %s is too old: covid_xray needs 3.10 to 3.13. Install one and name it, for example: "
            "make lab PYTHON=python3.12" % (found[0], found[1], sys.executable)
        )
    if found > NEWEST:
        print("Python %d.%d is newer than any this version was tried with (3.10 to 3.13); going on." % found)


def check_disk(folder, needed):
    "Enough free space where the environment will stand"
    free = shutil.disk_usage(folder).free / GIGABYTE
    if free < needed:
        stop(
            "%.1f GB free at %s, about %d GB needed: make room, or (without an NVIDIA GPU) take PyTorch's smaller "
            "builds, about 3 GB: make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu" % (free, folder, needed)
        )


def fingerprint():
    "What the environment was made from; a change in any of it means installing again"
    digest = hashlib.sha256(ROOT.encode("utf-8"))
    for name in ("settings.ini", "setup.py"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def test_peers():
    "Packages that the tests compare with, from settings.ini"
    with open(os.path.join(ROOT, "settings.ini")) as file:
        lines = [line.split("=", 1) for line in file if line.startswith("test_peers")]
    return lines[0][1].split()


def works(python):
    "Whether the environment's Python is there and starts"
    try:
        return subprocess.call([python, "-c", "import pip"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def pip(python, *arguments):
    "Plain pip, from the environment itself"
    command = [python, "-m", "pip", "install", "--disable-pip-version-check"] + list(arguments)
    if subprocess.call(command, cwd=ROOT) != 0:
        stop("pip could not install (its own words are above): check network or proxy, then run the same command again")


def make_venv(venv):
    "An empty environment with pip"
    if os.path.isdir(venv):
        shutil.rmtree(venv)  # a broken or moved environment: its Python no longer starts
    if subprocess.call([sys.executable, "-m", "venv", venv]) != 0:
        stop("%s could not make a virtual environment: on Debian and Ubuntu, apt install python3-venv" % sys.executable)


def main():
    parser = argparse.ArgumentParser(description="Make the virtual environment for covid_xray")
    parser.add_argument("--venv", default=".venv", help="folder of the environment")
    parser.add_argument("--torch-index", default="", help="package index to take torch and torchvision from")
    options = parser.parse_args()

    venv = os.path.join(ROOT, options.venv)
    python = os.path.join(venv, "Scripts" if os.name == "nt" else "bin", "python")
    stamp = os.path.join(venv, ".covid_xray")
    made_from = fingerprint()
    if os.path.isfile(stamp) and open(stamp).read() == made_from and works(python):
        os.utime(stamp, None)
        return

    if not works(python):
        check_python()
    has_torch = works(python) and subprocess.call([python, "-c", "import importlib.metadata as m; m.version('torch')"],
                                                  stderr=subprocess.DEVNULL) == 0
    if not has_torch:
        small = options.torch_index or not sys.platform.startswith("linux")
        download, disk = CPU_BUILD if small else GPU_BUILD
        check_disk(ROOT, disk)
        print("Setting up %s with Python %d.%d: a download of about %.1f GB, most of it PyTorch; %d GB on disk."
              % ((options.venv,) + tuple(sys.version_info[:2]) + (download, disk)))
        if not small:
            print("No NVIDIA GPU? Stop now (Ctrl-C) and take about %.1f GB instead: "
                  "make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu" % CPU_BUILD[0])
        sys.stdout.flush()
        if not works(python):
            make_venv(venv)
        # Before the rest, so that the build asked for is the one that stays.
        index = ["--index-url", options.torch_index] if options.torch_index else []
        pip(python, "torch>=2.4", "torchvision>=0.19", *index)
    print("Now JupyterLab and the other packages: one to three minutes without a word.")
    sys.stdout.flush()
    pip(python, "--quiet", "-e", ".[dev]")
    pip(python, "--quiet", "--no-deps", *test_peers())
    kernel = [python, "-m", "ipykernel", "install", "--sys-prefix", "--name", "python3"]
    if subprocess.call(kernel + ["--display-name", "Python 3 (covid_xray)"], stdout=subprocess.DEVNULL) != 0:
        stop("no Jupyter kernel could be registered in %s: run make clean, then the same command again" % options.venv)
    with open(stamp, "w") as file:
        file.write(made_from)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped; run the same command again to go on")
