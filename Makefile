# Two commands start everything: `make lab` (the course) and `make test` (every test). All are safe to repeat.
#
#   make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu   a much smaller PyTorch, for machines without a GPU
#   make lab PORT=8899                                          when port 8888 is taken
#   make lab IP=0.0.0.0                                         inside a container (root is fine)
#   make test PYTHON=python3.12 PYTEST_ARGS="-k notebooks -x"   another Python, some of the tests
#
# Works with GNU make 3.81 (macOS) and newer. Without make: see "Without make" in README.md.

PYTHON      = python3
VENV        = .venv
TORCH_INDEX =
PORT        = 8888
IP          = 127.0.0.1
PYTEST_ARGS ?=
BENCH_ARGS  ?=
ONLY        ?= *
SCALE       ?= build/scale
MODELS      ?= residual-128

ifeq ($(OS),Windows_NT)
BIN = $(VENV)/Scripts
else
BIN = $(VENV)/bin
endif
STAMP = $(VENV)/.covid_xray

.PHONY: help lab test course docs bench sweeps models results slow-checks nbgrader-check oldest-check dist export outputs clean claims app outside explanations

help:
	@echo "make lab          set up, then open JupyterLab on the first chapter"
	@echo "make app          set up, then open the web app: a film in, an answer with its doubts out"
	@echo "make test         set up, then run every test"
	@echo "make course       run every chapter headless; minutes and peak memory as a table, kept and put into the cards"
	@echo "make docs         build the docs site into _docs/ (Quarto where installed, else without it)"
	@echo "make bench        speed of what is slow, a table (about two minutes); BENCH_ARGS=\"--json FILE\" keeps it"
	@echo "make bench-peers  the same beside fastai, Lightning, torchvision and kornia, as ratios (their own environment, 45 minutes)"
	@echo "make models       train the small models that ship with the course; finished ones are left alone"
	@echo "make results      train and test on real films (COVID_XRAY_DATA); finished folds are kept; ONLY=, MODELS="
	@echo "make outside      what helps at a hospital never seen: archives left out (COVID_XRAY_DATA; two minutes)"
	@echo "make explanations the checks of chapter 6 over five seeds; with COVID_XRAY_DATA also real films against boxes and lung masks"
	@echo "make sweeps       the trainings that chapters 4b and 7 compare; computes only what is missing (20 minutes from nothing)"
	@echo "make claims       what chapters 4, 4a, 4c and 9 claim, over five seeds; computes only what is missing (half an hour from nothing)"
	@echo "make gate         fit the input gate and measure it on real films (COVID_XRAY_DATA; two minutes)"
	@echo "make slow-checks  chapters 1 and 4 on real films (COVID_XRAY_DATA), training in four processes, then fuzz, fuzz-guided, kills, rerun, mutation and coverage"
	@echo "make fuzz         100,000 cases of wrong input; the table goes to covid_xray/results/fuzz.csv (half an hour)"
	@echo "make fuzz-guided  wrong input led by the branches it reaches (atheris in its own folder, half an hour)"
	@echo "make kills        kill downloads, caches, trainings and exports hundreds of times and see that nothing is lost (10 minutes)"
	@echo "make coverage     lines of the library that tests and notebooks run (half an hour)"
	@echo "make mutation     do the tests notice small faults in metrics, splits and gradcam? (half an hour)"
	@echo "make rerun        every chapter twice in one kernel, elsewhere, read-only (half an hour)"
	@echo "make scale        21,165 simulated files tabled, decoded, trained on, evaluated: time and memory (10 minutes; Linux; 3 GB, SCALE=)"
	@echo "make time-to-result  seconds until a fresh network is any good, beside fastai (.venv-bench) and DarkCovidNet's recipe"
	@echo "make export       notebooks -> modules, README.md from nbs/index.ipynb"
	@echo "make outputs      the same, and store the outputs, clean"
	@echo "make clean        remove .venv and everything built"
	@echo "make dist         wheel and source archive in dist/: the same bytes wherever and whenever they are built"
	@echo "make nbgrader-check every assignment handed out and graded by nbgrader itself (its own environment, 6 minutes)"
	@echo "make oldest-check tests with the oldest declared versions (its own environment, 6 GB, half an hour)"

# The tool returns at once when the environment is complete; the stamp is remade when a requirement changes.
$(STAMP): settings.ini setup.py tools/environment.py
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "no '$(PYTHON)' on PATH: install Python 3.10 to 3.13, or name yours: make lab PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) tools/environment.py --venv "$(VENV)" --torch-index "$(TORCH_INDEX)"

lab: $(STAMP)
	@$(BIN)/python tools/lab.py --port "$(PORT)" --ip "$(IP)"

app: $(STAMP)
	@$(BIN)/python tools/app.py --port "$(PORT)" --ip "$(IP)"

test: $(STAMP)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

course: $(STAMP)
	@$(BIN)/python tools/run_chapters.py --minutes

docs: $(STAMP)
	@$(BIN)/python tools/docs.py

export: $(STAMP)
	@$(BIN)/python tools/set_up.py
	@$(BIN)/nbdev_export
	@$(BIN)/python tools/teaching.py
	@$(BIN)/python tools/readme.py

outputs: $(STAMP)
	@$(BIN)/python tools/run_chapters.py --save --minutes

bench: $(STAMP)
	@$(BIN)/python tools/bench.py $(BENCH_ARGS)
	@$(BIN)/python tools/bench_deployment.py

.PHONY: bench-peers
bench-peers: $(STAMP)
	@$(BIN)/python tools/bench_peers.py $(BENCH_ARGS)

models: $(STAMP)
	@$(BIN)/python tools/make_models.py

results: $(STAMP)
	@test -d "$(COVID_XRAY_DATA)/darkcovidnet" || { echo "results needs real films: set COVID_XRAY_DATA to a folder that holds darkcovidnet/" >&2; exit 1; }
	@$(BIN)/python tools/results.py --data "$(COVID_XRAY_DATA)" --only "$(ONLY)" --models $(MODELS)

outside: $(STAMP)
	@test -d "$(COVID_XRAY_DATA)/darkcovidnet" || { echo "outside needs real films: set COVID_XRAY_DATA to a folder that holds darkcovidnet/" >&2; exit 1; }
	@$(BIN)/python tools/outside.py --data "$(COVID_XRAY_DATA)"
explanations: $(STAMP)
	@$(BIN)/python tools/explanations.py $(if $(COVID_XRAY_DATA),--data "$(COVID_XRAY_DATA)")

sweeps: $(STAMP)
	@$(BIN)/python tools/sweeps.py
	@$(BIN)/python tools/leaks.py
	@$(BIN)/python tools/transfer.py

claims: $(STAMP)
	@$(BIN)/python tools/claims.py
.PHONY: gate
gate: $(STAMP)
	@test -f "$(COVID_XRAY_DATA)/manifest.csv" || { echo "gate needs real films: set COVID_XRAY_DATA to a folder with manifest.csv" >&2; exit 1; }
	@$(BIN)/python tools/gate.py --data "$(COVID_XRAY_DATA)"

.PHONY: fuzz fuzz-guided kills coverage mutation rerun

fuzz: $(STAMP)
	@$(BIN)/python tools/fuzz.py

fuzz-guided: $(STAMP)
	@$(BIN)/python tools/fuzz_guided.py

kills: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python tools/kills.py --out covid_xray/results/kills.csv

coverage: $(STAMP)
	@$(BIN)/python tools/line_coverage.py

mutation: $(STAMP)
	@$(BIN)/python tools/mutation.py

rerun: $(STAMP)
	@$(BIN)/python tools/rerun.py

.PHONY: scale
scale: $(STAMP)
	@$(BIN)/python tools/scale.py --folder "$(SCALE)"

slow-checks: $(STAMP)
	@test -d "$(COVID_XRAY_DATA)/darkcovidnet" || { echo "slow-checks needs real films: set COVID_XRAY_DATA to a folder that holds darkcovidnet/" >&2; exit 1; }
	@COVID_XRAY_SOURCE=darkcovidnet COVID_XRAY_ROOT="$(COVID_XRAY_DATA)/darkcovidnet" $(BIN)/python tools/run_chapters.py nbs/01_data.ipynb nbs/04_training.ipynb
	@COVID_XRAY_SLOW=1 $(BIN)/python -m pytest tests/test_scale.py
	@$(MAKE) fuzz fuzz-guided kills rerun mutation coverage

.PHONY: time-to-result
# fastai wants another fastcore than nbdev: PEERS is a Python with fastai, torch and scikit-learn
PEERS ?= .venv-bench/bin/python
FILMS = $(if $(COVID_XRAY_DATA),--data "$(COVID_XRAY_DATA)")
time-to-result: $(STAMP)
	@$(BIN)/python tools/time_to_result.py --peers "$(PEERS)" --search $(FILMS)
	@$(BIN)/python tools/time_to_result.py --peers "$(PEERS)" $(FILMS)

.PHONY: nbgrader-check oldest-check dist

nbgrader-check: $(STAMP)
	@$(BIN)/python tools/nbgrader_check.py

oldest-check: $(STAMP)
	@$(BIN)/python tools/oldest.py

dist: $(STAMP)
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation >/dev/null
	@$(BIN)/python -c "import hashlib, pathlib; [print(hashlib.sha256(p.read_bytes()).hexdigest(), p) for p in sorted(pathlib.Path('dist').iterdir())]"

clean:
	rm -rf "$(VENV)" .venv-nbgrader .venv-oldest .venv-mutation .venv-fuzz .venv-bench .coverage.parts build dist *.egg-info _docs _proc nbs/nbdev.yml nbs/sidebar.yml .pytest_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
