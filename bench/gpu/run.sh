#!/usr/bin/env bash
# bench/gpu/run.sh [correctness|matrix|network|ops]…: what `build.ts` made, on a machine with a GPU; answers go to $OUT.
# Sourced before it: .gpu/enter.sh (Node and Dawn). Each part has a time limit, a file of its own, and cannot stop the next.
set -u
cd "$(dirname "$0")/../.."
out=${OUT:-.gpu/out}; mkdir -p "$out"
app=.gpu/app
# The first Python that has PyTorch, and numpy, by way of which tensors come and go.
if [ -z "${BENCH_PYTHON:-}" ]; then
  for python in python3 /usr/bin/python3 /usr/local/bin/python3 python; do
    "$python" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("torch") and u.find_spec("numpy")))' 2>/dev/null || continue
    BENCH_PYTHON=$python; break
  done
fi
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
      for kernels in tiled subgroup winograd subpixel narrow textured joined apart; do
        for storage in f32 f16; do conformance --storage $storage --kernels $kernels; done
      done
      gather conformance
      ;;
    matrix)
      # The forms of the kernel for matrix units: right, how fast, and what Dawn's checks of bounds cost.
      unit='matrix matrix-32x64 matrix-64x128 matrix-128x128'
      [ -n "${SMALL:-}" ] && unit=tiled
      for kernels in $unit; do beside matrix 20 node $app/conformance.mjs --storage f16 --kernels $kernels test/fixtures/conformance; done
      for test in matrix-unit attention; do beside matrix 30 node --test-reporter=./bench/gpu/reporter.mjs $app/$test.test.mjs; done
      gather matrix
      SHOW=160 part matrix 40 matrix.txt node $app/bench.mjs matrix --device "${DEVICE:-cuda}" --seconds 24 ${SMALL:+--small} --json "$out/matrix.json"
      SHOW=50 part "without checks of bounds" 12 matrix.txt node $app/bench.mjs matrix --alone --dawn disable_robustness --only "1024³,conv 3×3 320,${SMALL:-none}" --seconds 6 ${SMALL:+--small}
      ;;
    network)
      SHOW=120 part network "${LIMIT:-60}" network.txt node $app/bench.mjs unet tune --device "${DEVICE:-cuda}" --only "512², guided,small" --seconds 42 ${SMALL:+--small} --json "$out/network.json"
      ;;
    ops)
      SHOW=200 part ops 45 ops.txt node $app/bench.mjs ops --device "${DEVICE:-cuda}" --seconds 35 ${SMALL:+--small} --json "$out/ops.json"
      ;;
    *) echo "no part $wanted: correctness, matrix, network, ops" >&2 ;;
  esac
done
