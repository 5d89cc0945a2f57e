"""Package metadata for pip. Every fact comes from settings.ini, which nbdev reads too.

Wheel and source archive come out the same, byte for byte, in any folder, at any time, under any umask.
"""
import gzip
import json
import re
import os
import tarfile
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
SUFFIX = "_requirements"
os.environ.setdefault("SOURCE_DATE_EPOCH", "1577836800")  # the time of every file in an archive: 1 January 2020
os.umask(0o022)  # what the build itself writes


def read_settings():
    "The settings that nbdev and this file share"
    parser = ConfigParser(delimiters=["="])
    parser.read(HERE / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def for_pypi(readme):
    "Links into the repository, which a package index can't follow, as addresses"
    def address(match):
        kind = "raw" if match[1].endswith(".png") else "blob"
        return f"]({settings['git_url']}/{kind}/{settings['branch']}/{match[1]})"

    return re.sub(r"\]\((?!https?:|#|mailto:)([^)]+)\)", address, readme)


def without_outputs(notebook):
    "A chapter as a learner first meets it"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def usual_rights(folder):
    "Whatever the checkout has"
    for path in Path(folder).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


class BuildWithChapters(build_py):
    "Put the chapters of nbs/ and their pictures into the wheel, so that a `pip install` user has them too"

    def chapters(self):
        hidden = {"_proc", ".ipynb_checkpoints"}
        found = (p for p in (HERE / "nbs").rglob("*") if p.suffix in (".ipynb", ".png"))
        return sorted(p for p in found if not hidden & set(p.parts))

    def target(self, notebook):
        return Path(self.build_lib) / settings["lib_path"] / "chapters" / notebook.relative_to(HERE / "nbs")

    def run(self):
        super().run()
        if self.editable_mode:  # a checkout has nbs/ beside the package
            return
        for notebook in self.chapters():
            target = self.target(notebook)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(without_outputs(notebook) if notebook.suffix == ".ipynb" else notebook.read_bytes())
        usual_rights(self.build_lib)

    def get_outputs(self, include_bytecode=True):
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else outputs + [str(self.target(p)) for p in self.chapters()]


class SameWheel(bdist_wheel):
    "A wheel whose licences, too, have the usual rights"

    def write_wheelfile(self, wheelfile_base, *options, **named):
        super().write_wheelfile(wheelfile_base, *options, **named)
        usual_rights(wheelfile_base)


class SameArchive(sdist):
    "A source archive without what differs between builds: order, times, owners, rights"

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        def as_always(entry):
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = int(os.environ["SOURCE_DATE_EPOCH"])
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            return entry

        if format != "gztar":
            raise SystemExit(f"source archives are gztar, not {format}")
        name = f"{base_name}.tar.gz"
        with open(name, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for path in [Path(base_dir), *sorted(Path(base_dir).rglob("*"))]:
                    archive.add(path, recursive=False, filter=as_always)
        return name


settings = read_settings()
package = settings["lib_path"]
extras = {key[: -len(SUFFIX)]: value.split() for key, value in settings.items() if key.endswith(SUFFIX)}

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=for_pypi((HERE / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    keywords=settings["keywords"].split(),
    author=settings["author"],
    author_email=settings["author_email"],
    license_expression="Apache-2.0 AND CC-BY-4.0",  # code AND text with figures
    license_files=["LICENSE", "LICENSE-TEXT"],
    url=settings["git_url"],
    project_urls={
        "Documentation": settings["doc_host"] + settings["doc_baseurl"],
        "Changelog": settings["git_url"] + "/blob/main/CHANGELOG.md",
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Jupyter",
        "Intended Audience :: Education",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=[package, f"{package}.*"]),
    package_data={package: settings["package_data"].split()},
    python_requires=">=" + settings["min_python"],
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{package}={package}._modidx:d"],
    },
    cmdclass={"build_py": BuildWithChapters, "bdist_wheel": SameWheel, "sdist": SameArchive},
    zip_safe=False,
)
