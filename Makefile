# `make demo` and `make test` do all the set-up on a machine that has nothing but Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest

.PHONY: demo test test-lowest docs-check site lint schemas clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	mkdir -p demo
	$(BIN)/geosegsr upscale sample_data/naip.tif -o demo/naip_x4.tif --scale 4 --overwrite \
		--preview demo/naip_x4.png --report demo/naip_x4.html
	$(BIN)/geosegsr upscale sample_data/scene.tif -o demo/scene_x4.tif --scale 4 --overwrite
	$(BIN)/geosegsr info demo/naip_x4.tif
	@echo "The results are $(CURDIR)/demo/naip_x4.tif (a real aerial image) and scene_x4.tif (a painted one)."
	@echo "Look at $(CURDIR)/demo/naip_x4.png, and open $(CURDIR)/demo/naip_x4.html in a browser."

test: lint
	$(BIN)/pytest -q -n 2 --dist worksteal

docs-check: $(STAMP)
	$(BIN)/python tests/docs_check.py

# Into build/site; any warning, such as of a broken link, is an error.
site: $(STAMP)
	$(BIN)/mkdocs build --quiet --strict

# The lower bounds in pyproject.toml, in a virtual environment of their own: 7 GB, removed afterwards.
test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct --editable '.[dev]'
	$(LOWEST)/bin/python -m pytest -q -n 2 --dist worksteal \
		tests/models tests/raster tests/sensor tests/tiling tests/imagery tests/training
	rm -rf $(LOWEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

schemas: $(STAMP)
	$(BIN)/python tests/kits/json_schemas.py

clean:
	rm -rf $(VENV) $(LOWEST) demo build dist
