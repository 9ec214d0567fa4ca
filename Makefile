# `make help` lists what there is. Everything is installed into $(VENV); nothing outside this folder changes, but for a browser where root runs it.

PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
FUZZ ?= .venv-fuzz
SECONDS ?= 20
JS := tests/p2p/js
PAGE := tests/rpc/page
EVM := contracts/evm
AUDIT ?= .venv-audit
ARGS ?=
WORKERS ?= 3
UV_VERSION := 0.13.9

BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --quiet
# The files name every package with its hashes, dependencies included: pip has nothing to choose.
LOCKED := install --require-hashes --no-deps --no-build-isolation
COMPILED := build/.compiled

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check format bench chaos matrix soak calibrate fuzz contracts audit compile pure lock clean

help:
	@echo 'make demo     four nodes on this machine: one order book, trades that settle (ARGS="--json")'
	@echo 'make test     set up, check, and run the tests (ARGS="-k book")'
	@echo 'make check    lint, formatting, types, import rules'
	@echo 'make format   let ruff repair formatting and imports'
	@echo 'make bench    the matcher against others, and the ingest path'
	@echo 'make chaos    kill, cut off and starve four nodes on a bad line (root; ARGS="--seed 2")'
	@echo 'make matrix   swaps under every fault at every step, in virtual time (ARGS="--quick")'
	@echo 'make soak     half an hour under load: does anything grow? (ARGS="--minutes 10")'
	@echo 'make calibrate  eight real nodes beside eight simulated ones (root; ARGS="--seconds 60")'
	@echo 'make fuzz     every decoder, guided by coverage (SECONDS=20 for each)'
	@echo 'make contracts  compile contracts/evm into the package'
	@echo 'make audit    slither and halmos over the contracts, and mutants that halmos must refute'
	@echo 'make setup    create $(VENV) with everything pinned, compile the core'
	@echo 'make compile  compile the core in place       make pure  run it interpreted again'
	@echo 'make lock     resolve requirements/*.txt again (UPGRADE=--upgrade for new versions)'
	@echo 'make clean    remove what the above made, $(VENV) included'

setup: $(VENV)/.editable $(VENV)/.dev $(JS)/node_modules/.installed $(EVM)/node_modules/.installed \
 $(PAGE)/node_modules/.installed build/.chromium $(BIN)/anvil compile
	@:

# Python requirements only; compiled modules are used when they are there and fresh.
demo: $(VENV)/.editable
	@$(BIN)/python tools/compile_core.py drop-stale
	@$(BIN)/orrange demo $(ARGS)

# A third of the time the tests wait for other processes, so three files run at once on two cores, and
# more where there are more (WORKERS=6); each as a whole, for the sake of what its tests share, in the
# order that tests/conftest.py gives them.
test: setup check
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.editable $(VENV)/.dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: setup $(PEERS)/.installed
	@$(BIN)/orrange bench book $(ARGS)
	@$(BIN)/orrange bench ingest $(ARGS)

# Each ends with one line of JSON, and with status 1 if a node fell short.
chaos: setup
	@$(BIN)/python tests/chaos/chaos.py $(ARGS)

calibrate: setup
	@$(BIN)/python tests/chaos/calibration.py $(ARGS)

matrix: setup
	@$(BIN)/python tests/swaps/matrix.py --jobs 2 $(ARGS)

soak: setup
	@$(BIN)/python tests/chaos/soak.py $(ARGS)

# Interpreted, in an environment of its own: the fuzzer sees Python code only.
fuzz: $(FUZZ)/.installed
	@$(FUZZ)/bin/python tests/fuzz/fuzz.py --seconds $(SECONDS) $(ARGS)

# What nodes deploy and call is in the package; this makes it from the sources.
contracts: setup
	@cd $(EVM) && node_modules/@foundry-rs/forge-*/bin/forge build --offline --quiet
	@$(BIN)/python tools/evm_artifacts.py write

audit: setup $(AUDIT)/.installed
	@$(AUDIT)/bin/python tests/contracts/audit.py $(ARGS)

# --- environments -------------------------------------------------------------------------------

define make_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
 'Python 3.11 or newer is needed, and $(PYTHON) is' \
 "$$($(PYTHON) --version 2>/dev/null || echo missing)." \
 'Name another one: make PYTHON=python3.11' >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
 '$(PYTHON) cannot create virtual environments.' \
 'On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
@echo "creating $(1)"
@$(PYTHON) -m venv $(1)
endef

$(VENV)/.made:
	$(call make_venv,$(VENV))
	@touch $@

$(VENV)/.build: requirements/build.txt $(VENV)/.made
	@echo "installing $<"
	@$(PIP) $(LOCKED) -r $<
	@touch $@

# libp2p's fastecdsa has no wheel for Linux: it is compiled against the GMP that build.txt brought.
$(VENV)/.run: requirements/run.txt $(VENV)/.build
	@echo "installing $<"
	@gmp=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/cmeel.prefix; \
	CFLAGS="$$CFLAGS -I$$gmp/include" \
	LDFLAGS="$$LDFLAGS -L$$gmp/lib -Wl,-rpath,\$$ORIGIN/../cmeel.prefix/lib" \
	$(PIP) $(LOCKED) -r $< || { echo 'Installing $< failed, see above.' \
	 'It compiles one small package: that takes a C compiler and the headers of Python' \
	 '(Debian and Ubuntu: apt-get install gcc python3-dev).' >&2; exit 1; }
	@touch $@

$(VENV)/.editable: pyproject.toml orrange_p2p/__init__.py $(VENV)/.run
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run | $(VENV)/.editable
	@echo "installing $<"
	@$(PIP) $(LOCKED) -r $<
	@touch $@

# Without Node 20 and npm the tests that need these are skipped, and nothing else is.
define npm_ci
@if ! command -v npm >/dev/null || \
 ! node -e 'process.exit(+(parseInt(process.versions.node) < 20))' 2>/dev/null; then \
 echo 'no npm with Node 20 or newer: $(2) will be skipped' >&2; \
else \
 echo "installing $(1)/package.json"; \
 npm ci --prefix $(1) --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null \
 && touch $@ \
 || echo '$(1)/package.json did not install: $(2) will be skipped' >&2; \
fi
endef

$(JS)/node_modules/.installed: $(JS)/package.json $(JS)/package-lock.json
	$(call npm_ci,$(JS),the test with a js-libp2p peer)

$(EVM)/node_modules/.installed: $(EVM)/package.json $(EVM)/package-lock.json
	$(call npm_ci,$(EVM),the tests of the EVM contracts)

$(PAGE)/node_modules/.installed: $(PAGE)/package.json $(PAGE)/package-lock.json
	$(call npm_ci,$(PAGE),the test of the page)

# The one thing that is installed outside of this folder, and only where that needs no questions: by
# root, on Debian and its like. Elsewhere the test of the page says that it is skipped.
build/.chromium:
	@mkdir -p $(@D)
	@if ! command -v chromium chromium-browser >/dev/null && [ "$$(id -u)" = 0 ] \
	 && command -v apt-get >/dev/null; then \
	 echo 'installing chromium'; \
	 export DEBIAN_FRONTEND=noninteractive; get='apt-get install -qq -y --no-install-recommends chromium'; \
	 timeout 300 sh -c "$$get || { apt-get update -qq && $$get; }" >/dev/null 2>&1 \
	 || echo 'chromium did not install: the test of the page will be skipped' >&2; fi
	@touch $@

# The development chain, beside our own programs, where `orrange devnet` looks for it.
$(BIN)/anvil: $(EVM)/node_modules/.installed
	@for program in $(CURDIR)/$(EVM)/node_modules/@foundry-rs/anvil-*/bin/anvil; do \
	 [ ! -x "$$program" ] || ln -sf "$$program" $@; done

# Each peer alone: one that does not install is reported and does not stop the others.
$(PEERS)/.installed: requirements/build.txt requirements/bench-peers.txt tools/install_each.py
	$(call make_venv,$(PEERS))
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PEERS)/bin/python -m pip --quiet $(LOCKED) -r requirements/build.txt
	@$(PEERS)/bin/python tools/install_each.py requirements/bench-peers.txt
	@! command -v npm >/dev/null || npm install --prefix $(PEERS) --no-save --no-package-lock \
	 --no-audit --no-fund --loglevel=error nodejs-order-book@10.1.1 \
	 || echo 'nodejs-order-book did not install: it will be reported as missing' >&2
	@touch $@

$(FUZZ)/.installed: requirements/build.txt requirements/fuzz.txt
$(AUDIT)/.installed: requirements/build.txt requirements/audit.txt
$(FUZZ)/.installed $(AUDIT)/.installed:
	$(call make_venv,$(@D))
	@for file in $^; do \
	 PIP_DISABLE_PIP_VERSION_CHECK=1 $(@D)/bin/python -m pip --quiet $(LOCKED) -r $$file \
	 || exit 1; done
	@touch $@

# --- the compiled core --------------------------------------------------------------------------

# Every file of core/, not only the compiled ones: mypyc copies constants across modules.
compile: $(COMPILED)

$(COMPILED): $(wildcard orrange_p2p/core/*.py) tools/compile_core.py pyproject.toml $(VENV)/.dev
	@$(BIN)/python tools/compile_core.py build
	@mkdir -p $(@D) && touch $@

pure:
	@$(PYTHON) tools/compile_core.py clean

# --- upkeep -------------------------------------------------------------------------------------

UV := build/lock-venv/bin/uv --quiet --no-config pip compile --universal --python-version 3.11 \
	--generate-hashes -c requirements/constraints.txt --custom-compile-command 'make lock' $(UPGRADE)

build/lock-venv/.uv-$(UV_VERSION):
	$(call make_venv,build/lock-venv)
	@build/lock-venv/bin/python -m pip --quiet install uv==$(UV_VERSION)
	@touch $@

# dev.txt contains run.txt, which contains build.txt; the constraints keep their versions equal.
lock: build/lock-venv/.uv-$(UV_VERSION)
	@mkdir -p requirements
	@$(UV) --group build -o requirements/build.txt
	@$(UV) pyproject.toml --extra devnet --group build -c requirements/build.txt -o requirements/run.txt
	@$(UV) pyproject.toml --extra devnet --extra sim --extra ray --group build --group dev -c requirements/run.txt -o requirements/dev.txt
	@$(UV) --group peers -o requirements/bench-peers.txt
	@$(UV) --group fuzz -c requirements/run.txt -o requirements/fuzz.txt
	@$(UV) --group audit -o requirements/audit.txt

clean: pure
	@rm -rf $(VENV) $(PEERS) $(FUZZ) $(AUDIT) $(JS)/node_modules $(EVM)/node_modules $(PAGE)/node_modules build dist .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis
	@find orrange_p2p tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
