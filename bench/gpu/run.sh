#!/usr/bin/env bash
# bench/gpu/run.sh [correctness|timings|tune]…: what `build.ts` made, on a machine with a GPU; answers go to $OUT.
# Sourced before it: .gpu/enter.sh (Node and Dawn). Each part has a time limit, a file of its own, and cannot stop the next.
set -u
cd "$(dirname "$0")/../.."
out=${OUT:-.gpu/out}; mkdir -p "$out"
app=.gpu/app
export BENCH_PYTHON=${BENCH_PYTHON:-python3} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
began=$SECONDS

part() { # part NAME SECONDS FILE COMMAND…: its last lines are shown too
  local name=$1 limit=$2 file=$out/$3; shift 3
  local start=$SECONDS
  { echo "== $name"; timeout -k 5 "$limit" "$@" 2>&1; echo "== $name: status $?, $((SECONDS - start)) s"; } >>"$file"
  echo "== $name: $((SECONDS - start)) s (at $((SECONDS - began)) s)"; tail -n "${SHOW:-4}" "$file" | cut -c1-200
}

environment() {
  local report; report=$(mktemp)
  command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu --format=csv
  uname -r; node --version; nproc
  echo "VK_DRIVER_FILES=${VK_DRIVER_FILES:-}"; [ -n "${VK_DRIVER_FILES:-}" ] && cat "$VK_DRIVER_FILES"
  ls /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/nvidia/share/vulkan/icd.d 2>/dev/null
  "$BENCH_PYTHON" -c 'import sys, torch; print(sys.version.split()[0], torch.__version__, torch.version.cuda, torch.cuda.is_available())' &
  node $app/environment.mjs 2>&1 | tee "$report" | grep -v '^Warning: max'
  if ! grep -q '"kind":"hardware"' "$report"; then
    echo "no hardware: the loader says"
    VK_LOADER_DEBUG=error,warn,driver node $app/environment.mjs 2>&1 | grep -v '^Warning: max' | head -60
    ldd "$(ldconfig -p | sed -n 's/.*=> \(.*libGLX_nvidia.so.0\)/\1/p' | head -1)" 2>&1 | grep 'not found'
  fi
  wait
}

parallel=$(mktemp -d); trap 'rm -rf "$parallel"' EXIT
# beside NAME SECONDS COMMAND…: at once with others, until `gather NAME` puts what they said into $OUT/NAME.txt.
beside() {
  local name=$1 limit=$2; shift 2
  local log; log=$parallel/$name-$(printf %03d "$(ls "$parallel" | wc -l)")
  : >"$log"
  { local start=$SECONDS; echo "== $*"; timeout -k 5 "$limit" "$@" 2>&1; echo "== status $?, $((SECONDS - start)) s"; } >"$log" &
}

gather() {
  wait
  cat "$parallel/$1"-* | grep -v '^Warning: max' >>"$out/$1.txt"
  echo "== $1 (at $((SECONDS - began)) s)"
  # What was run and what came of it; comparisons and tests that failed.
  grep -hE '^==|^all:|comparisons|^✗|^    | FAIL| over |rror' "$parallel/$1"-* | grep -v '^✓' | cut -c1-300 | head -150
  rm -f "$parallel/$1"-*
}

conformance() { beside conformance "${LIMIT:-40}" node $app/conformance.mjs "$@" test/fixtures/conformance; }

for wanted in "${@:-correctness}"; do
  case $wanted in
    correctness)
      export -f environment; export app
      SHOW=60 part environment 40 environment.txt bash -c environment
      # Files beside each other, each with a device of its own: most of the time is the compiler's.
      for file in $app/*.test.mjs; do beside tests "${LIMIT:-70}" node --test-reporter=./bench/gpu/reporter.mjs "$file"; done
      gather tests
      # Weights and activations in f32, then in f16, by rule; then each variant where it can run.
      for storage in f32 f16; do conformance --storage $storage; done
      conformance --storage f16 --activations f32
      conformance --storage f16 --kernels matrix
      gather conformance
      for kernels in tiled subgroup winograd narrow textured joined apart; do
        for storage in f32 f16; do conformance --storage $storage --kernels $kernels; done
      done
      gather conformance
      ;;
    timings)
      SHOW=200 part ops 90 ops.txt node $app/bench.mjs ops --device "${DEVICE:-cuda}" ${SMALL:+--small} --json "$out/ops.json"
      SHOW=60 part unet 100 unet.txt node $app/bench.mjs unet --device "${DEVICE:-cuda}" ${SMALL:+--small} --json "$out/unet.json"
      ;;
    tune)
      SHOW=150 part tune 150 tune.txt node $app/bench.mjs tune --device "${DEVICE:-cuda}" ${SMALL:+--small} --json "$out/tune.json"
      ;;
    *) echo "no part $wanted: correctness, timings, tune" >&2 ;;
  esac
done
