"""Do the tests notice when the code is wrong? Small faults put in, one at a time: `make mutation` (POSIX only).

    python tools/mutation.py [--only metrics splits gradcam] [--sample 200] [--seed 0]

cosmic-ray, fetched from PyPI into `.venv-mutation` and nowhere else, makes the faults ("mutants": a plus for a minus,
1 for 0, `not` before a condition); type hints are left out, since nobody runs them. A process that has torch and
scikit-learn loaded forks for each mutant and runs the module's tests until one fails. A mutant is killed when a test
fails, when the module can't be imported, or when the tests take eight times the CPU time they take otherwise.

A row a module goes to covid_xray/results/mutation.csv. Survivors that were looked at stand in
`tests/data/survivors.csv` with what was found: `equivalent` (no input can tell the difference) or `looks` (a figure's
size, colour or font). A survivor that isn't listed there counts as a missing test, and the command ends with 1 below
a rate of 0.85.
"""
from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "covid_xray" / "results" / "mutation.csv"
LOOKED_AT = ROOT / "tests" / "data" / "survivors.csv"
TOOLS, PACKAGES = ROOT / ".venv-mutation", ("cosmic-ray==8.7.0", "stevedore==5.5.0")
LOADED = "torch torchvision sklearn.metrics scipy.sparse.csgraph pandas matplotlib.pyplot hypothesis pytest captum.attr"
TESTS = {  # the quick tests of each module, quickest first
    "metrics": ["tests/test_metrics.py", "-k", "not resample and not reach_their_power and not temperature"],
    "splits": ["tests/test_splits.py"],
    "gradcam": ["tests/test_gradcam.py", "-k", "not resnet18 and not densenet121 and not timm"],
}


@dataclass(frozen=True)
class Mutant:
    "One fault in one place"
    line: int  # in the module, from 1
    operator: str  # cosmic-ray's name for the kind of fault
    before: str  # the line as it is
    after: str  # the line with the fault
    source: str  # the module with the fault

    def key(self) -> tuple[str, str, str]:
        "What names it also when lines move"
        return self.operator, self.before, self.after


def fetch() -> None:
    "Put cosmic-ray's mutation operators within reach; of its dependencies they need only two, and parso is there"
    if not TOOLS.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", TOOLS, *PACKAGES]
        subprocess.run(command, check=True)
    sys.path.append(str(TOOLS))


def type_hints(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    "Start and end of each type hint, which is never evaluated"
    hints = [n.annotation for n in ast.walk(tree) if isinstance(n, (ast.arg, ast.AnnAssign)) and n.annotation]
    hints += [n.returns for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.returns]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in hints]


def places(source: str) -> list[tuple[str, int]]:
    "Every place for a fault outside type hints: cosmic-ray's kind of fault, and the how manieth of its kind"
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.operators.provider import OperatorProvider

    hints, kinds, nodes = type_hints(ast.parse(source)), OperatorProvider(), list(ast_nodes(get_ast(source)))
    found = []
    for name in (n for n in kinds if not n.startswith("Variable")):  # those two ask for names to put in
        operator = kinds[name]()
        spans = [span for node in nodes for span in operator.mutation_positions(node)]
        found += [(name, number) for number, (start, end) in enumerate(spans)
                  if not any(low <= start and end <= high for low, high in hints)]
    return found


def mutant(source: str, operator: str, number: int) -> Mutant | None:
    "The fault in its place; None where it is no Python or says the same as before"
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    mutated = mutate_code(source, OperatorProvider()[operator](), number)
    try:
        if ast.dump(ast.parse(mutated)) == ast.dump(ast.parse(source)):
            return None
    except SyntaxError:
        return None
    pairs = enumerate(zip(source.splitlines(), mutated.splitlines()), 1)
    line, (before, after) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
    return Mutant(line, operator, before.strip(), after.strip(), mutated)


def draw(source: str, sample: int, seed: int) -> tuple[list[Mutant], int]:
    "Mutants drawn at random, and how many places there are to draw from"
    every = places(source)
    drawn: list[Mutant] = []
    for operator, number in random.Random(seed).sample(every, len(every)):
        if len(drawn) == sample:
            break
        made = mutant(source, operator, number)
        drawn += [made] if made else []
    return drawn, len(every)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    "Imports one module from a given text instead of from its file"

    def __init__(self, name: str, source: str, path: Path) -> None:
        self.name, self.source, self.path = name, source, path

    def find_spec(self, name: str, path: object, target: ModuleType | None = None):
        return importlib.util.spec_from_loader(name, self, origin=str(self.path)) if name == self.name else None

    def get_filename(self, name: str) -> str:
        return str(self.path)

    def get_data(self, path: str) -> bytes:
        return self.source.encode()


class QuickFirst:
    "A plugin of pytest that puts the property tests, which take longest, last"

    def pytest_collection_modifyitems(self, items: list) -> None:
        items.sort(key=lambda item: hasattr(item.obj, "hypothesis"))


def in_the_fork(module: str, source: str, limit: float) -> None:
    "Run the module's tests on a text in its place, in silence; the process ends here"
    import hypothesis
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1), os.dup2(silent, 2)
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # a fault need not be made small
    hypothesis.settings.register_profile("mutation", database=None, derandomize=True, phases=phases)
    hypothesis.settings.load_profile("mutation")
    sys.meta_path.insert(0, Changed(f"covid_xray.{module}", source, ROOT / "covid_xray" / f"{module}.py"))
    options = "-x -q --assert=plain -p no:cacheprovider -p no:faulthandler".split()
    os._exit(int(pytest.main([*options, *TESTS[module]], plugins=[QuickFirst()])))


def survives(module: str, source: str, limit: float = 600) -> tuple[bool, float]:
    "Whether every test passes on a text in the module's place, and the CPU seconds that took"
    before, pid = resource.getrusage(resource.RUSAGE_CHILDREN), os.fork()
    if pid == 0:
        try:
            in_the_fork(module, source, limit)
        finally:
            os._exit(9)
    status, after = os.waitpid(pid, 0)[1], resource.getrusage(resource.RUSAGE_CHILDREN)
    return status == 0, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def findings(module: str) -> dict[tuple[str, str, str], str]:
    "What was found about survivors that were looked at"
    table = pd.read_csv(LOOKED_AT, dtype=str, keep_default_na=False)
    table = table[table["module"] == module]
    return {tuple(row[:3]): row[3] for row in table[["operator", "before", "after", "finding"]].itertuples(index=False)}


def measure(module: str, sample: int, seed: int) -> dict[str, object]:
    "A row of the table; survivors that nobody has looked at are printed"
    source = (ROOT / "covid_xray" / f"{module}.py").read_text(encoding="utf-8")
    passed, seconds = survives(module, source)
    if not passed:
        sys.exit(f"the tests of {module} fail without any fault: mend that first")
    chosen, possible = draw(source, sample, seed)
    alive, spent = [], seconds
    for number, made in enumerate(chosen, 1):
        survived, took = survives(module, made.source, limit=8 * seconds + 10)
        spent += took
        alive += [made] if survived else []
        print(f"\r{module}: {number} of {len(chosen)}, {len(alive)} survived, {spent / 60:.1f} min", end="", flush=True)
    print()
    known = findings(module)
    found = [known.get(made.key(), "missing") for made in alive]
    for made in (m for m, f in zip(alive, found) if f == "missing"):
        print(f"  line {made.line}, {made.operator}:\n    - {made.before}\n    + {made.after}", flush=True)
    counts = {what: found.count(what) for what in ("equivalent", "looks", "missing")}
    killed = len(chosen) - len(alive)
    return {"module": module, "possible": possible, "tried": len(chosen), "killed": killed, **counts,
            "rate": round(killed / (len(chosen) - counts["equivalent"]), 3), "cpu_minutes": round(spent / 60, 1)}


def keep(rows: list[dict[str, object]]) -> pd.DataFrame:
    "Write the rows into the table, in place of the same modules' former ones"
    fresh = pd.DataFrame(rows)
    if TABLE.is_file():
        former = pd.read_csv(TABLE)
        fresh = pd.concat([former[~former["module"].isin(fresh["module"])], fresh])
    fresh = fresh.sort_values("module")
    fresh.to_csv(TABLE, index=False, lineterminator="\n")
    return fresh


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation testing")
    parser.add_argument("--only", nargs="+", choices=TESTS, default=list(TESTS), help="modules")
    parser.add_argument("--sample", type=int, default=200, help="mutants a module, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    options = parser.parse_args()
    fetch()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "MPLBACKEND": "agg"}
    os.chdir(ROOT)
    for name in LOADED.split():
        importlib.import_module(name)
    began = time.monotonic()
    table = keep([measure(module, options.sample, options.seed) for module in options.only])
    print(f"{table.to_string(index=False)}\n{(time.monotonic() - began) / 60:.0f} minutes")
    return int((table["rate"] < 0.85).any())


if __name__ == "__main__":
    sys.exit(main())
