#!/usr/bin/env bash
# Make everything that ships in fdlab/assets/nano. Run again to go on: what is finished is skipped, what was cut off
# goes on.
#
#     bash experiments/nano/make.sh OUT
#     DEVICE=cuda JOBS=16 BATCH=256 bash experiments/nano/make.sh OUT
#     SECONDS_SDM=60 PORTRAITS=40 SHIP=no bash experiments/nano/make.sh OUT
#
# Autoencoder, text encoder, the judge's CLIP and `early`, from which the SDM goes on, stay as they are; SHARED=yes
# makes the first two anew (on the CPU).
# SECONDS_A_PART=600 sets all parts' lengths at once. Seconds are one core's on a CPU, the clock's on a GPU.
set -euo pipefail

out=$(realpath -m "${1:?usage: bash experiments/nano/make.sh OUT}")
cd "$(dirname "$0")/../.."
export PYTHONPATH=. OMP_NUM_THREADS="${THREADS:-1}" FDLAB_CACHE="$out/cache"

python=${PYTHON:-python}
device=${DEVICE:-cpu}
jobs=${JOBS:-1}          # processes that render
batch=${BATCH:-32}       # pictures a step of the denoisers; the judge takes twice as many, the encoder people
portraits=${PORTRAITS:-5500} scenes=${SCENES:-3200} pairs=${PAIRS:-2400} judged=${JUDGED:-4700} all=${ALL:-12000}

# Lengths: what the weights that ship took.
each=${SECONDS_A_PART:-}
autoencoder_s=${SECONDS_AUTOENCODER:-${each:-1740}}
clip_s=${SECONDS_CLIP:-${each:-1560}}
encoder_s=${SECONDS_ENCODER:-${each:-540}}
first_s=${SECONDS_SDM_FIRST:-${each:-384}}       # without the identity term; early has 216 behind it
sdm_s=${SECONDS_SDM:-${each:-2520}}              # with it
drawings_s=${SECONDS_SDM_DRAWINGS:-${each:-270}} # with single drawings as well
base_s=${SECONDS_BASE:-${each:-600}}
tdm_s=${SECONDS_TDM:-${each:-1320}}
judge_s=${SECONDS_JUDGE:-${each:-980}}

minutes() { awk -v s="$1" 'BEGIN { printf "%.4f", s / 60 }'; }

part() { # NAME COMMAND...: run it unless it is finished
    local name=$1
    shift
    if [ -e "$out/$name.done" ]; then return; fi
    echo "== $name"
    "$@"
    touch "$out/$name.done"
}

shards() { # MIX NUM SEED FOLDER LAST SIZE [--pairs]
    local mix=$1 num=$2 seed=$3 folder=$4 last=$5 size=$6
    shift 6
    local extra="$*"
    # shellcheck disable=SC2016
    seq 0 "$size" $((last - 1)) | xargs -P "$jobs" -I{} bash -c '
        first=$1 last=$(($1 + $2 < $3 ? $1 + $2 : $3))
        exec "$4" experiments/nano/make_shards.py "$5" "$6" "$7" "$8" --first "$first" --last "$last" \
            --size "$2" --device "$9" ${10}' _ {} "$size" "$last" "$python" "$mix" "$num" "$seed" "$folder" "$device" \
        "$extra"
}

judged_pictures() {
    # shellcheck disable=SC2016
    seq 0 $((jobs - 1)) | xargs -P "$jobs" -I{} \
        "$python" experiments/nano/render_judged.py "$out/judged" --num "$judged" --part "{}/$jobs"
}

denoiser() { # KIND NAME SECONDS ARGUMENT...
    local kind=$1 name=$2 seconds=$3
    shift 3
    "$python" experiments/nano/train_denoiser.py "$kind" "$out/$name" "$@" --minutes "$(minutes "$seconds")" \
        --batch-size "$batch" --device "$device" --threads "$OMP_NUM_THREADS"
}

mkdir -p "$out"
if [ "${SHARED:-no}" = yes ]; then
    part all "$python" -m fdlab data render "$out/all" --mix all --num "$all" --seed 1
    part packed "$python" experiments/nano/pack.py "$out/all" "$out/packed"
    part autoencoder "$python" experiments/nano/train_autoencoder.py "$out/packed" "$out/autoencoder" \
        --minutes "$(minutes "$autoencoder_s")"
    part clip "$python" experiments/nano/train_clip.py "$out/packed" fdlab/assets/nano/tokenizer "$out/clip" \
        --minutes "$(minutes "$clip_s")"
    # Latents and captions below are these networks'.
    # What follows is encoded by what ships, so these have to ship first.
    if [ "${SHIP:-yes}" != yes ]; then
        echo "SHARED=yes needs SHIP=yes: all that follows reads these networks from fdlab/assets/nano" >&2
        exit 2
    fi
    part shared "$python" experiments/nano/ship.py vae="$out/autoencoder/vae" \
        text_encoder="$out/clip/text_encoder" image_encoder="$out/clip/image_encoder"
fi

part portraits shards aligned-portraits 16000 5 "$out/portraits" "$portraits" 500
part scenes shards aligned-scenes 8000 6 "$out/scenes" "$scenes" 200
part pairs shards scenes 8000 6 "$out/pairs" "$pairs" 800 --pairs
portrait_shards=("$out"/portraits/*.npz) scene_shards=("$out"/scenes/*.npz) pair_shards=("$out"/pairs/*.npz)

part encoder "$python" experiments/nano/train_reference_encoder.py "$out/encoder" "${portrait_shards[@]}" \
    --minutes "$(minutes "$encoder_s")" --people $((2 * batch)) --device "$device"
sees=(--encoder "$out/encoder/image_encoder")
sees+=(--start asset:nano/early)
plain=(--identity-weight 0 --decay 0.01)
part sdm_first denoiser sdm sdm "$first_s" "${portrait_shards[@]}" "${pair_shards[@]}" "${sees[@]}" "${plain[@]}"
part sdm denoiser sdm sdm $((first_s + sdm_s)) "${portrait_shards[@]}" "${pair_shards[@]}" "${sees[@]}"
# Of the pairs alone it learns that a drawing shows two people.
part sdm_drawings denoiser sdm sdm2 "$drawings_s" "${portrait_shards[@]}" "$out"/scenes/*-000[0-8]00-*.npz \
    "${pair_shards[@]}" "${sees[@]}" --start "$out/sdm/model" --lr 0.007 --decay 0.6 --average 0.98

part base denoiser tdm base "$base_s" "${scene_shards[@]}" "${pair_shards[@]}" \
    "$out"/portraits/*-00[01][05]00-*.npz --start asset:nano/base --average 0.99
part tdm denoiser tdm tdm "$tdm_s" "${scene_shards[@]}" "${pair_shards[@]}" --start "$out/base/model"

part judged judged_pictures
part judge "$python" experiments/nano/train_judge.py "$out/judged" fdlab/assets/nano/tokenizer "$out/judge" \
    --minutes "$(minutes "$judge_s")" --batch-size $((2 * batch)) --lr 0.02 --clip fdlab/assets/nano/judge \
    --device "$device" --threads "$OMP_NUM_THREADS"

if [ "${SHIP:-yes}" = yes ]; then
    part ship "$python" experiments/nano/ship.py scheduler="$out/sdm2/model/scheduler" base="$out/base/model" \
        tdm="$out/tdm/model" sdm="$out/sdm2/model" judge="$out/judge/judge"
fi
echo "all of it is in $out"
