#!/usr/bin/env bash
# The embedded world's own board: every preset on both benchmarks, with the weights that ship, as tables and a page.
#
#   bash experiments/leaderboard/make.sh [KEY=VALUE ...]     # keys go to every evaluation, such as benchmark.max_subjects=4
#
# Pictures and whole records go to $BOARD_RUNS (default: runs/leaderboard); what is there already is not done again, so the same
# command goes on after an interruption. The page, the tables and the records without their pictures go to $BOARD (default: here).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/../.."
runs="${BOARD_RUNS:-runs/leaderboard}" board="${BOARD:-experiments/leaderboard}" python="${PYTHON:-python}"

# As many steps as the main job draws with, unless another number is asked for.
steps="sampler.num_steps=12"
[[ " $* " != *" sampler.num_steps="* ]] || steps=""

presets=()
for file in conf/sampler/[!_]*.yaml; do
    preset="$(basename "$file" .yaml)"
    # snf_fast is snf_prompt by another solver, in steps of its own: experiments/fast_sampling compares them.
    [ "$preset" = snf_fast ] || presets+=("$preset")
done

for benchmark in people_single people_multi; do
    baselines=true # the ceilings and the base stand in one evaluation of each benchmark
    for preset in "${presets[@]}"; do
        name="$benchmark-$preset"
        if [ -f "$runs/evaluate/$name/evaluation/breakdown.json" ]; then
            echo "== $name is there"
        else
            echo "== $name"
            "$python" -m fdlab evaluate benchmark="$benchmark" sampler="$preset" name="$name" paths.runs="$runs" \
                benchmark.baselines="$baselines" ${steps:+"$steps"} "$@"
        fi
        baselines=false
    done
done

mkdir -p "$board"
"$python" -m fdlab leaderboard "$runs" --no-quoted --page "$board/index.html" --thumbnails 32 --format markdown --out "$board/board.md"
"$python" -m fdlab leaderboard "$runs" --no-quoted --format csv --out "$board/board.csv"

# What ranks and comparisons need, without pictures: what a newcomer's own records stand beside.
rm -rf "$board/records"
find "$runs" -name record.json | sort | while read -r record; do
    folder="$(dirname "$record")"
    target="$board/records/${folder#"$runs"/evaluate/}"
    mkdir -p "$target"
    cp "$record" "$target/"
    gzip -9nc "$folder/per_sample.jsonl" >"$target/per_sample.jsonl.gz"
    [ ! -f "$folder/breakdown.json" ] || cp "$folder/breakdown.json" "$target/"
done
echo "the page: $board/index.html"
