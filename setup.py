"""Package metadata for pip. Every fact comes from settings.ini, which nbdev reads too."""
import json
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SUFFIX = "_requirements"


def read_settings():
    "The settings that nbdev and this file share"
    parser = ConfigParser(delimiters=["="])
    parser.read(HERE / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def without_outputs(notebook):
    "A chapter as a learner first meets it"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


class BuildWithChapters(build_py):
    "Put the chapters of nbs/ into the wheel, so that a `pip install` user has them too"

    def chapters(self):
        hidden = {"_proc", ".ipynb_checkpoints"}
        return sorted(p for p in (HERE / "nbs").rglob("*.ipynb") if not hidden & set(p.parts))

    def target(self, notebook):
        return Path(self.build_lib) / settings["lib_path"] / "chapters" / notebook.relative_to(HERE / "nbs")

    def run(self):
        super().run()
        if self.editable_mode:  # a checkout has nbs/ beside the package
            return
        for notebook in self.chapters():
            target = self.target(notebook)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(without_outputs(notebook))

    def get_outputs(self, include_bytecode=True):
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else outputs + [str(self.target(p)) for p in self.chapters()]


settings = read_settings()
package = settings["lib_path"]
extras = {key[: -len(SUFFIX)]: value.split() for key, value in settings.items() if key.endswith(SUFFIX)}

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
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
    cmdclass={"build_py": BuildWithChapters},
    zip_safe=False,
)
