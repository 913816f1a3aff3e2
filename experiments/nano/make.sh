#!/usr/bin/env bash
# Make everything that ships in fdlab/assets/nano. Run again to go on: what is finished is skipped, what was cut off
# goes on.
#
#     bash experiments/nano/make.sh OUT
#     LANES=2 JUDGE=no bash experiments/nano/make.sh OUT        # two processes at a time; the judge stays as it is
#     LIMIT=540 DEVICE=cuda JOBS=16 BATCH=256 LANES=2 SECONDS_A_PART=50 SHIP=no bash experiments/nano/make.sh OUT
#     SECONDS_SDM=60 PORTRAITS=40 SHIP=no bash experiments/nano/make.sh OUT
#
# Autoencoder, text encoder, the judge's CLIP and `early`, from which the SDM goes on, stay as they are.
# SHARED=yes makes autoencoder and text encoder anew (on the CPU), and with them all that knows their latents and
# captions: shards, base, SDM, TDM, `early`. Base and SDM start from scratch then: over seven hours of one core in all.
# The image encoder sees pictures, no latents: it goes on from the one that ships.
# SECONDS_A_PART=600 sets all parts' lengths at once. Seconds are one core's on a CPU, the clock's on a GPU.
# LANES=2 trains encoder and SDM beside base, TDM and judge: neither needs what the other makes.
# LIMIT=540 ends the run before so many seconds by the clock have passed: GRACE (20) seconds earlier all that works is told
# to save and stop. The status is 75 then, and the same command goes on, with another LIMIT or none.
set -euo pipefail

out=$(realpath -m "${1:?usage: bash experiments/nano/make.sh OUT}")
cd "$(dirname "$0")/../.."
export PYTHONPATH=. OMP_NUM_THREADS="${THREADS:-1}" FDLAB_CACHE="$out/cache"

python=${PYTHON:-python}
device=${DEVICE:-cpu}
jobs=${JOBS:-1}          # processes that render
lanes=${LANES:-1}        # trainings beside each other: 1 or 2
limit=${LIMIT:-0} grace=${GRACE:-20}
batch=${BATCH:-32}       # pictures a step of the denoisers; the judge takes twice as many, the encoder people
judge=${JUDGE:-yes} ship=${SHIP:-yes} shared=${SHARED:-no}
portraits=${PORTRAITS:-5500} drawings=${DRAWINGS:-1200} scenes=${SCENES:-3200} pairs=${PAIRS:-2400} judged=${JUDGED:-4700} all=${ALL:-12000}

# Lengths: what the weights that ship took. From scratch: all that they have behind them, their starts' trainings
# included (README.md: 58 min the first base, 142 more the first SDM).
first=384 base=600 # on from what ships; early has 216 behind it
if [ "$shared" = yes ]; then first=12600 base=4680; fi
each=${SECONDS_A_PART:-}
autoencoder_s=${SECONDS_AUTOENCODER:-${each:-1740}}
clip_s=${SECONDS_CLIP:-${each:-1560}}
encoder_s=${SECONDS_ENCODER:-${each:-540}}
first_s=${SECONDS_SDM_FIRST:-${each:-$first}}    # without the identity term
sdm_s=${SECONDS_SDM:-${each:-2520}}              # with it
drawings_s=${SECONDS_SDM_DRAWINGS:-${each:-540}} # with single drawings as well
base_s=${SECONDS_BASE:-${each:-$base}}
tdm_s=${SECONDS_TDM:-${each:-1320}}
judge_s=${SECONDS_JUDGE:-${each:-980}}

minutes() { awk -v s="$1" 'BEGIN { printf "%.4f", s / 60 }'; }

part() { # NAME COMMAND...: run it unless it is finished
    local name=$1 status=0
    shift
    if [ -e "$out/$name.done" ]; then return; fi
    if [ "$told" = yes ]; then exit "$unfinished"; fi
    echo "== $name"
    "$@" || status=$?
    if [ "$status" = 0 ]; then
        touch "$out/$name.done"
    elif [ "$told" = yes ]; then
        exit "$unfinished"
    else
        echo "part '$name' failed with status $status; the same command goes on from there" >&2
        exit 1
    fi
}

stop_all() { # SIGNAL
    local pid
    # A job is a process group of its own: renderers and trainings hear it as well.
    for pid in "${running[@]}"; do kill -"$1" -- -"$pid" 2>/dev/null || true; done
}

together() { # LANE...: beside each other; when one fails, or the time is up, all are told to save and stop
    local lane pid left status worst=0 stopped=no
    running=()
    set -m # a lane is a process group
    for lane; do
        (set +m && trap 'told=yes' TERM && "$lane") &
        running+=($!)
    done
    set +m
    while [ ${#running[@]} -gt 0 ]; do
        left=()
        for pid in "${running[@]}"; do
            if kill -0 "$pid" 2>/dev/null; then
                left+=("$pid")
                continue
            fi
            status=0
            wait "$pid" || status=$?
            # A failure says more than what was stopped for it.
            if [ "$worst" = 0 ] || [ "$worst" = "$unfinished" ]; then worst=$((status ? status : worst)); fi
        done
        running=("${left[@]}")
        if [ $stopped = no ] && { [ "$worst" != 0 ] || [ "$told" = yes ] || time_is_up "$grace"; }; then
            stopped=$SECONDS
            stop_all TERM
        elif [ $stopped != no ] && { time_is_up 0 || [ $((SECONDS - stopped)) -gt 120 ]; }; then
            stop_all KILL
        fi
        sleep 0.2 || true # Ctrl-C ends it too
    done
    if [ "$worst" = 0 ]; then return; fi
    # Killed while it saved, as one of a part told to stop.
    if [ "$worst" -gt 128 ] && [ $stopped != no ]; then worst=$unfinished; fi
    if [ "$worst" = "$unfinished" ]; then
        echo "stopped after $SECONDS s, unfinished: the same command goes on, with another LIMIT or none" >&2
    fi
    exit "$worst"
}

time_is_up() { # SECONDS BEFORE
    [ "$limit" != 0 ] && [ $((SECONDS + $1)) -ge "$limit" ]
}

shards() { # MIX NUM SEED FOLDER LAST SIZE [--pairs]
    local mix=$1 num=$2 seed=$3 folder=$4 last=$5 size=$6
    shift 6
    # shellcheck disable=SC2016
    seq 0 "$size" $((last - 1)) | xargs -P "$jobs" -I{} bash -c '
        first=$1 last=$(($1 + $2 < $3 ? $1 + $2 : $3))
        exec "$4" experiments/nano/make_shards.py "$5" "$6" "$7" "$8" --first "$first" --last "$last" \
            --size "$2" --device "$9" "${@:10}"' _ {} "$size" "$last" "$python" "$mix" "$num" "$seed" "$folder" "$device" \
        "$@" "${encoded_by[@]}"
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
        --vae "$vae" --batch-size "$batch" --device "$device" --threads "$OMP_NUM_THREADS"
}

shared_parts() {
    part all "$python" -m fdlab data render "$out/all" --mix all --num "$all" --seed 1
    part packed "$python" experiments/nano/pack.py "$out/all" "$out/packed"
    part autoencoder "$python" experiments/nano/train_autoencoder.py "$out/packed" "$out/autoencoder" \
        --minutes "$(minutes "$autoencoder_s")"
    part clip "$python" experiments/nano/train_clip.py "$out/packed" fdlab/assets/nano/tokenizer "$out/clip" \
        --minutes "$(minutes "$clip_s")"
}

pictures() {
    part portraits shards aligned-portraits 16000 5 "$out/portraits" "$portraits" 500
    part drawings shards aligned-drawings 8000 7 "$out/drawings" "$drawings" 400
    part scenes shards aligned-scenes 8000 6 "$out/scenes" "$scenes" 200
    part pairs shards scenes 8000 6 "$out/pairs" "$pairs" 800 --pairs
    if [ "$judge" = yes ]; then part judged judged_pictures; fi
}

gather() { # what was rendered
    portrait_shards=("$out"/portraits/*.npz) drawing_shards=("$out"/drawings/*.npz)
    scene_shards=("$out"/scenes/*.npz) pair_shards=("$out"/pairs/*.npz)
}

encoder_and_sdm() {
    gather
    local sees=(--encoder "$out/encoder/image_encoder" --start "$sdm_start")
    local plain=(--identity-weight 0 --decay 0.01)
    part encoder "$python" experiments/nano/train_reference_encoder.py "$out/encoder" "${portrait_shards[@]}" \
        --minutes "$(minutes "$encoder_s")" --people $((2 * batch)) --device "$device" --threads "$OMP_NUM_THREADS"
    part sdm_first denoiser sdm sdm "$first_s" "${portrait_shards[@]}" "${pair_shards[@]}" "${sees[@]}" "${plain[@]}"
    if [ "$shared" = yes ]; then part early keeps_early; fi
    part sdm denoiser sdm sdm $((first_s + sdm_s)) "${portrait_shards[@]}" "${pair_shards[@]}" "${sees[@]}"
    # Of the pairs alone it learns that a drawing shows two people. Drawings in the portraits' few places: of all
    # scenes it would learn what the TDM is for.
    part sdm_drawings denoiser sdm sdm2 "$drawings_s" "${portrait_shards[@]}" "${drawing_shards[@]}" \
        "${pair_shards[@]}" "${sees[@]}" --start "$out/sdm/model" --lr 0.007 --decay 0.6 --average 0.98
}

keeps_early() { # the SDM before it is recognised: a start whose training shows
    rm -rf "$out/early"
    mkdir -p "$out/early"
    cp -r "$out/sdm/model" "$out/early/model"
}

base_tdm_and_judge() {
    gather
    # The first 1,500 portraits.
    part base denoiser tdm base "$base_s" "${scene_shards[@]}" "${pair_shards[@]}" "${portrait_shards[@]:0:3}" \
        --start "$base_start" --average 0.99 "${base_rate[@]}"
    part tdm denoiser tdm tdm "$tdm_s" "${scene_shards[@]}" "${pair_shards[@]}" --start "$out/base/model"
    if [ "$judge" = no ]; then return; fi
    part judge "$python" experiments/nano/train_judge.py "$out/judged" fdlab/assets/nano/tokenizer "$out/judge" \
        --minutes "$(minutes "$judge_s")" --batch-size $((2 * batch)) --lr 0.02 --clip fdlab/assets/nano/judge \
        --device "$device" --threads "$OMP_NUM_THREADS"
}

ships() {
    local made=(scheduler="$out/sdm2/model/scheduler" base="$out/base/model" tdm="$out/tdm/model" sdm="$out/sdm2/model")
    if [ "$judge" = yes ]; then made+=(judge="$out/judge/judge"); fi
    if [ "$shared" = yes ]; then
        # Not CLIP's image encoder: the SDM brings the one that knows people.
        made=(vae="$vae" text_encoder="$out/clip/text_encoder" early="$out/early/model" "${made[@]}")
    fi
    part ship "$python" experiments/nano/ship.py "${made[@]}"
}

unfinished=75 told=no running=()
wrong() { # MESSAGE
    echo "$1" >&2
    exit 2
}
for name in JUDGE SHIP SHARED; do
    case "${!name:-no}" in yes | no) ;; *) wrong "$name=${!name}: yes or no" ;; esac
done
for name in LIMIT GRACE; do
    case "${!name:-0}" in *[!0-9]*) wrong "$name=${!name}: whole seconds, 0 for none" ;; esac
done
for name in JOBS BATCH PORTRAITS DRAWINGS SCENES PAIRS JUDGED ALL; do
    case "${!name:-1}" in 0* | *[!0-9]*) wrong "$name=${!name}: a whole number from 1" ;; esac
done
case "$lanes" in 1 | 2) ;; *) wrong "LANES=$lanes: 1 or 2" ;; esac
case "$device" in cpu | cuda) ;; *) wrong "DEVICE=$device: cpu or cuda" ;; esac
command -v "$python" >/dev/null || wrong "PYTHON=$python: no such program"
lengths=" A_PART AUTOENCODER CLIP ENCODER SDM_FIRST SDM SDM_DRAWINGS BASE TDM JUDGE "
for name in ${!SECONDS_*}; do
    case "$lengths" in *" ${name#SECONDS_} "*) ;; *) wrong "$name: no part is called so; allowed: SECONDS_ and one of$lengths" ;; esac
    case "${!name}" in '' | 0* | *[!0-9]*) wrong "$name=${!name}: whole seconds, from 1" ;; esac
done
if [ "$device" = cuda ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    wrong "DEVICE=cuda: PyTorch finds no GPU here"
fi
# Whose latents and captions all that follows learns, and where denoisers start.
vae=asset:nano/vae encoded_by=() sdm_start=asset:nano/early base_start=asset:nano/base base_rate=()
if [ "$shared" = yes ]; then
    vae=$out/autoencoder/vae sdm_start=scratch base_start=scratch
    encoded_by=(--vae "$vae" --text-encoder "$out/clip/text_encoder")
    base_rate=(--lr 0.02) # from scratch better than a slower one (README.md, what was tried)
fi
mkdir -p "$out"
# A finished part is not made again, so other settings would be passed over.
asked="batch $batch, pictures $portraits $drawings $scenes $pairs $judged $all, seconds $autoencoder_s $clip_s $encoder_s"
asked+=" $first_s $sdm_s $drawings_s $base_s $tdm_s $judge_s"
if [ "$shared" = yes ]; then asked+=", shared"; fi
if [ -e "$out/settings" ] && [ "$(cat "$out/settings")" != "$asked" ]; then
    wrong "$out was begun with other settings ($(cat "$out/settings"); now $asked): take those, or another folder"
fi
# Whatever this run started holds the lock, also when the run itself was killed.
exec 9>"$out/lock"
# What was told to stop may take a moment to end.
if ! flock -w "$grace" 9; then wrong "another run works in $out"; fi
echo "$asked" >"$out/settings"
trap 'told=yes' INT TERM
trap 'stop_all TERM' EXIT
if [ "$shared" = yes ]; then together shared_parts; fi
together pictures
if [ "$lanes" = 1 ]; then
    together encoder_and_sdm
    together base_tdm_and_judge
else
    together encoder_and_sdm base_tdm_and_judge
fi
if [ "$ship" = yes ]; then together ships; fi
echo "all of it is in $out"
