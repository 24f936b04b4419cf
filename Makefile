# Every target makes the environment it needs. PYTHON picks the interpreter (3.11 or 3.12).
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
STORAGE ?= runs
TEST_WORKERS ?= 2
UI_PORT ?= 5000
BIN := .venv/bin

.PHONY: env demo test check format ui lock proofs smokes curves replay chaos nodes faults coverage reliability audit sbom clean

env: .venv/.ready

.venv/.ready: requirements.lock requirements-uv.lock pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: env
	$(BIN)/python -m experiments.run backbone_ablation --smoke --storage $(STORAGE)

# Side by side, a file at a time, the longest first: much of the time goes into waiting for processes to start.
test: env
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m cluster.check

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# For browsers of this machine: it answers to no other name, reads no pickles and keeps nothing in files of MLflow's own.
ui: env
	MLFLOW_ALLOW_FILE_STORE=false MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_DISABLE_TELEMETRY=true \
		$(BIN)/mlflow ui --backend-store-uri sqlite:///$(abspath $(STORAGE))/mlflow.db --host 127.0.0.1 \
		--port $(UI_PORT) --allowed-hosts 127.0.0.1:$(UI_PORT),localhost:$(UI_PORT)

# What docs/detector.md shows; each can be run alone.
proofs: env
	$(BIN)/python -m benchmarks.parameter_table
	$(BIN)/python -m benchmarks.malformed_corpus
	$(BIN)/python -m benchmarks.duplicates
	$(BIN)/python -m benchmarks.suggestions --data $(STORAGE)/data
	$(BIN)/python -m benchmarks.from_scratch --data $(STORAGE)/data --model $(STORAGE)/from_scratch.pt
	$(BIN)/python -m benchmarks.nms_grid --data $(STORAGE)/data --checkpoint $(STORAGE)/from_scratch.pt
	$(BIN)/python -m benchmarks.detector_pictures --data $(STORAGE)/data --checkpoint $(STORAGE)/from_scratch.pt

# Every declared experiment as a newcomer would try it, and the table of them all.
smokes: env
	$(BIN)/python -m benchmarks.smokes --storage $(STORAGE)

# Real trainings, recorded epoch by epoch; an interrupted recording goes on where it was.
curves: env
	$(BIN)/python -m benchmarks.learning_curves --data $(STORAGE)/data

replay: env
	$(BIN)/python -m benchmarks.replay

# What docs/reliability.md shows; each can be run alone.
chaos: env
	$(BIN)/python -m benchmarks.chaos --kills 50
	$(BIN)/python -m benchmarks.reliability
	$(MAKE) nodes

# Searches on two real nodes of this machine: one lost, one that joins, some unfit, one trial on both; one whose storage
# is an object store, measured from a third machine; and one in a Slurm job that is warned and queued again.
nodes: env
	$(BIN)/python -m pytest -m slow tests/test_two_nodes.py tests/test_nodes.py tests/test_object_search.py \
		tests/test_cluster_slurm.py

coverage: env
	$(BIN)/python -m benchmarks.coverage

faults: env
	$(BIN)/python -m benchmarks.node_chaos
	$(BIN)/python -m benchmarks.storage_faults
	$(BIN)/python -m benchmarks.record_damage
	$(BIN)/python -m benchmarks.checkpoint_damage
	$(BIN)/python -m benchmarks.tracker_faults
	$(BIN)/python -m benchmarks.tracker_cost
	$(BIN)/python -m benchmarks.reliability

reliability: env
	$(BIN)/python -m benchmarks.reliability

# Known vulnerabilities of the locked versions; it fails where the database cannot be asked.
audit: env
	$(BIN)/python -m benchmarks.audit

# What is in the lock, as CycloneDX.
sbom: .venv-sbom/.ready
	mkdir -p build
	.venv-sbom/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file build/sbom.json requirements.lock

# On its own: what it brings along makes every import of jsonschema, and so of Ray, a second slower.
.venv-sbom/.ready: requirements-sbom.lock .venv/.ready
	$(BIN)/uv venv --quiet --clear .venv-sbom
	$(BIN)/uv pip sync --quiet --python .venv-sbom/bin/python --require-hashes requirements-sbom.lock
	touch $@

# Resolve the newest versions that pyproject.toml allows, for all platforms and Python versions at once.
lock: env
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--upgrade --extra dev pyproject.toml -o requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --upgrade - -o requirements-uv.lock
	echo cyclonedx-bom | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --upgrade - -o requirements-sbom.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		-c requirements.lock cluster/requirements.in -o cluster/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		cluster/tracking/requirements.in -o cluster/tracking/requirements.lock

clean:
	rm -rf .venv .venv-sbom
