#!/usr/bin/env bash
# Is `sampler=snf_fast` (20 steps of a solver of second order) as good as 50 steps of DDIM? The same people, prompts and noise
# with each, and their paired differences.
#
#   bash experiments/fast_sampling/make.sh [KEY=VALUE ...]     # keys go to every evaluation, such as benchmark.max_subjects=4
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/../.."
runs="${FAST_RUNS:-runs/fast_sampling}" python="${PYTHON:-python}"

draw() { # name, overrides
    local name="$1"
    shift
    [ -f "$runs/evaluate/$name/evaluation/record.json" ] || "$python" -m fdlab evaluate benchmark=people_single \
        benchmark.max_subjects=16 benchmark.max_prompts=4 benchmark.max_images=1 benchmark.baselines=false \
        name="$name" paths.runs="$runs" "$@"
}
draw ddim50 sampler=snf_prompt "$@"
draw dpmpp20 sampler=snf_fast "$@"
draw unipc20 sampler=snf_fast sampler.scheduler=unipc "$@"
draw ddim20 sampler=snf_prompt sampler.num_steps=20 "$@"

for other in dpmpp20 unipc20 ddim20; do
    "$python" -m fdlab leaderboard diff "$runs/evaluate/ddim50" "$runs/evaluate/$other" --format json --out "$here/$other.json"
done
"$python" "$here/time_spent.py" --out "$here/seconds.json"
