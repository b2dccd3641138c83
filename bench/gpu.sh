#!/usr/bin/env bash
# One run on an NVIDIA GPU within a time limit: build, tests of the kernels, the benches that have a target, one table.
#
#   bench/gpu.sh [FOLDER]     FOLDER (default bench/results) gets <gpu>-<date>.json and gpu.log; in gpu-stages/ what each stage
#                             wrote, emptied at the start
#   LIMIT=540                 seconds for everything; what comes first matters most, what there is no time for is left out
#   PYTHON=python3            an interpreter with torch (CUDA), triton, transformers, peft, pytest, hypothesis, pytest-benchmark,
#                             pybind11 and setuptools; nothing is downloaded
#
# It needs GNU coreutils 8.31 or newer (env --default-signal).
#
# Every stage has a limit of its own, and a stage that fails stops no other. Exit status: 0 all passed, 1 something failed or
# was cut short (the last lines say what), 2 there is no GPU.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

readonly results=${1:-bench/results} limit=${LIMIT:-540} work=build/gpu
readonly parts=$results/gpu-stages
readonly table_seconds=20 grace=15 # for the table at the end; between an interrupt and the end of a stage
export PYTHON=${PYTHON:-python3}
export TRITON_CACHE_DIR=$PWD/$work/triton TORCHINDUCTOR_CACHE_DIR=$PWD/$work/inductor # a second run compiles nothing
export logs=$parts/logs
failed=()

# stage NAME SECONDS COMMAND...: runs the command for at most SECONDS, or what is left of the limit.
stage() {
  local name=$1 seconds=$2 begin=$SECONDS left=$((limit - table_seconds - grace - SECONDS)) code=0
  shift 2
  ((seconds > left)) && seconds=$left
  if ((seconds < 10)); then
    failed+=("$name: no time left")
    return
  fi
  printf '\n== %s, at most %d s\n' "$name" "$seconds"
  # An interrupt, so that pytest says and writes what it has; in a background job it would be ignored without env.
  timeout --signal=INT --kill-after="$grace" "$seconds" env --default-signal=INT "$@" || code=$?
  printf '== %s: %d s, exit status %d\n' "$name" $((SECONDS - begin)) "$code"
  case $code in
    0) ;;
    124 | 137) failed+=("$name: stopped after $seconds s") ;;
    *) failed+=("$name: exit status $code") ;;
  esac
}

# one_file FILE: its tests in a process of their own, with the result in a line, and the failures.
one_file() {
  local log code=0
  log=$logs/$(basename "$1" .py).log
  env --default-signal=INT "$PYTHON" -m pytest -p no:cacheprovider "$1" >"$log" 2>&1 || code=$?
  printf '%s: %s\n' "$1" "$(tail -n 1 "$log")"
  grep -E '^(FAILED|ERROR)' "$log"
  grep -q KeyboardInterrupt "$log" && return 255 # xargs starts no further file
  return "$code"
}

# all_files FILE...: side by side, because what takes time is Triton's compiler, on the CPU. An interrupt is for pytest alone.
all_files() {
  trap '' INT
  printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'one_file {}' 2>/dev/null
}
export -f one_file all_files

# tests NAME SECONDS FILE...
tests() {
  local name=$1 seconds=$2
  shift 2
  stage "$name" "$seconds" bash -c 'all_files "$@"' bash "$@"
  for file; do
    [[ -e $logs/$(basename "$file" .py).log ]] || printf '%s: not run\n' "$file"
  done
}

# attention SECONDS TREES: ours beside FlexAttention, whose compiler takes most of the time.
attention() {
  stage "attention, $2" "$1" "$PYTHON" -m pytest bench/bench_tree_attention.py -s -p no:cacheprovider \
    -k "bfloat16 and (himakernels or FlexAttention) and not packing and ($2)" \
    --benchmark-json="$parts/attention ${2%% *}.json"
}

# loss SECONDS FORM SHAPE OPTION...: ours beside eager torch and the bare products, at a shape that has a limit.
loss() {
  local seconds=$1 form=$2 shape=$3
  shift 3
  stage "loss, $form, $shape" "$seconds" "$PYTHON" -m bench.compare --form "$form" --shape "$shape" --dtype bfloat16 \
    --rounds 10 --only "eager torch" --json "$parts/loss $form $shape" "$@"
}

run() {
  # What has a target comes first: with the build, its limits are all the time there is. Behind each, in brackets, the seconds
  # that it is thought to take: Triton's compiler takes 1 to 5 for a kernel, FlexAttention's 15 for a case. The tests get
  # what is left; the benches pass a gate of their own before they measure.
  stage "build" 90 "$PYTHON" setup.py --quiet build_ext --inplace # (25)
  loss 100 linear h200-8k                                        # (75; the times after 45, the memory after 55)
  attention 80 "chains-128"                                      # (60; ours after 25)
  loss 60 linear h200-16k                                        # (40)
  loss 35 frozen h200-8k --no-memory                             # (25)
  loss 35 logits h200-logits --no-memory                         # (25)
  loss 35 frozen h200-16k --no-memory                            # (15)
  attention 70 "siblings-64 or siblings-128 or twigs-64 or chains-64" # (100: the last may be missing)
  tests "tests of the products and of attention" 120 tests/lm_head/test_kernels.py tests/test_tl_math.py \
    tests/ops/test_tree_attention.py tests/ops/test_vrgrpo_loss.py tests/ops/test_grouped_lora.py
  mapfile -t others < <(printf '%s\n' tests/ops/test_*.py tests/prefix_cache/test_kv_pool.py |
    grep -vE '/test_(tree_attention|vrgrpo_loss|grouped_lora)\.py')
  tests "the other tests" 120 "${others[@]}"
  stage "grouped_lora" 60 "$PYTHON" -m pytest bench/bench_grouped_lora.py -s -p no:cacheprovider -k "not fp32" \
    --benchmark-json="$parts/grouped_lora.json"
  stage "paged_attention" 45 "$PYTHON" -m pytest bench/bench_paged_attention.py -s -p no:cacheprovider \
    --benchmark-json="$parts/paged_attention.json"

  printf '\n== all numbers\n'
  "$PYTHON" -m bench.gpu_table "$parts" --out "$results" || failed+=("table")
  printf '\n%d s of %d\n' "$SECONDS" "$limit"
  ((${#failed[@]} == 0)) && return
  printf 'FAILED %s\n' "${failed[@]}"
  return 1
}

if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "bench/gpu.sh: expected a GPU that torch can use, found none" >&2
  exit 2
fi
rm -rf "$parts"
mkdir -p "$logs"
run 2>&1 | tee "$results/gpu.log"
exit "${PIPESTATUS[0]}"
