#!/usr/bin/env python3
"""What the quantization recipes cost on every labelled model: accuracy and cross-entropy in ONNX Runtime before and after,
with paired 95 % intervals. Exits 1 when one loses more than 0.5 point of accuracy, a language model more than 1 % of cross-entropy.

    labelled.py [MODEL…] [--recipe NAME…] [--zoo FOLDER…] [--split test|validation] [--set KEY=VALUE…] [--tcompress PATH]

MODEL: names of the table below; default: all that are there. Recipes: names of configs/frontier, configs, or files. The encoder-decoder pair is compressed as two models, the decoder
calibrated on what the original encoder gives, and measured together: compressed encoder in front of compressed decoder.

A difference is of means over what the labels mark; its interval counts samples, not tokens, as independent (tokens of a sentence
are not): 1.96 standard errors of the ratio estimator.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fidelity import file_megabytes, judge, root

DATA = root / "tests/data/zoo"
# Model: (files in the order in which they run, name of its data, what must hold).
MODELS = {
    "sentiment_minilm_l3": (["sentiment_minilm_l3.onnx"], "sentiment3", "accuracy"),
    "sentiment_minilm_l6": (["sentiment_minilm_l6.onnx"], "sentiment3", "accuracy"),
    "vit_digits": (["vit_digits.onnx"], "digits", "accuracy"),
    "vit_mnist5k": (["vit_mnist5k.onnx"], "mnist5k", "accuracy"),
    "gpt2_char": (["gpt2_char.onnx"], "fortunes_char", "cross-entropy"),
    "llama_char": (["llama_char.onnx"], "fortunes_char", "cross-entropy"),
    "t5_char": (["t5_char_encoder.onnx", "t5_char_decoder.onnx"], "devowel", "accuracy"),
}
RECIPES = ["w8a8", "w8a8-static", "b11", "b8"]
MOST_POINTS = 0.5
MOST_ENTROPY = 0.01


def decoder_data(encoder, data):
    """The decoder's inputs: its own tokens beside the encoder's states and mask."""
    states = judge.run(judge.load(encoder, os.cpu_count()), data, 32)["last_hidden_state"]
    return {"input_ids": data["decoder_input_ids"], "encoder_hidden_states": states,
            "encoder_attention_mask": data["attention_mask"], "labels": data["labels"]}


def score(paths, data):
    """Per counted label: whether it is predicted, and the loss; per sample how many labels count."""
    for path in paths[:-1]:
        data = decoder_data(path, data)
    logits = judge.logits_of(paths[-1], data, threads=os.cpu_count()).astype(np.float64)
    labels, counted = data["labels"], data["labels"] != -100
    known = np.where(counted, labels, 0)
    logits -= logits.max(-1, keepdims=True)
    loss = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, known[..., None], -1)[..., 0]
    axes = tuple(range(1, labels.ndim))
    return {"correct": ((logits.argmax(-1) == labels) & counted).sum(axes), "loss": (loss * counted).sum(axes), "count": counted.sum(axes)}


def paired(before, after, what):
    """Mean difference over labels and half its 95 % interval."""
    count = before["count"].astype(np.float64)
    difference = after[what].astype(np.float64) - before[what]
    mean = difference.sum() / count.sum()
    residual = difference - mean * count
    return mean, 1.96 * np.sqrt((residual ** 2).sum() * len(count) / max(1, len(count) - 1)) / count.sum()


def recipe_file(recipe):
    places = [root / f"configs/frontier/{recipe}.json", root / f"configs/{recipe}.json", Path(recipe)]
    return next(str(place) for place in places if place.exists())


def compress(arguments, paths, recipe, data_name, folder):
    """The compressed files; None when one failed."""
    calibration = DATA / f"{data_name}_calibration.npz"
    made = []
    for path in paths:
        if made:
            calibration = Path(folder) / "decoder_calibration.npz"
            np.savez(calibration, **decoder_data(paths[0], judge.read(DATA / f"{data_name}_calibration.npz")))
        target = Path(folder) / path.name
        options = [option for value in arguments.set for option in ("--set", value)]
        run = subprocess.run([arguments.tcompress, "run", str(path), "-c", recipe_file(recipe), "--calibration",
                              str(calibration), *options, "-o", str(target), "--quiet"], stdout=subprocess.DEVNULL, check=False)
        if run.returncode:
            return None
        made.append(target)
    return made


def find(file, folders):
    return next((Path(folder) / file for folder in folders if (Path(folder) / file).exists()), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", help=", ".join(MODELS))
    parser.add_argument("--recipe", nargs="+", default=RECIPES)
    parser.add_argument("--zoo", nargs="*", default=[], help="folders of the models that are not in the repository; besides TCOMPRESS_ZOO")
    parser.add_argument("--split", default="test")
    parser.add_argument("--set", action="append", default=[], help="passed on to tcompress")
    parser.add_argument("--tcompress", default=str(root / "build/release/bin/tcompress"))
    arguments = parser.parse_args()

    folders = [root / "tests/data/models", *arguments.zoo, *filter(None, [os.environ.get("TCOMPRESS_ZOO")])]
    print("| model | recipe | MB | accuracy % | difference, points (95 %) | cross-entropy | difference (95 %) | |\n|---|---|---|---|---|---|---|---|")
    bad = False
    for name in arguments.model or MODELS:
        files, data_name, figure = MODELS[name]
        paths = [find(file, folders) for file in files]
        if None in paths:
            print(f"| {name} | | | | | | | not there: give its folder with --zoo |", flush=True)
            continue
        data = judge.read(DATA / f"{data_name}_{arguments.split}.npz")
        before = score(paths, data)
        labels = before["count"].sum()
        accuracy, entropy = before["correct"].sum() / labels, before["loss"].sum() / labels
        print(f"| {name} | float32 | {sum(file_megabytes(str(p)) for p in paths):.2f} | {100 * accuracy:.2f} | {labels} labels | {entropy:.4f} | | |",
              flush=True)
        for recipe in arguments.recipe:
            with tempfile.TemporaryDirectory() as folder:
                made = compress(arguments, paths, recipe, data_name, folder)
                if made is None:
                    bad = True
                    print(f"| {name} | {recipe} | | | | | | tcompress failed |", flush=True)
                    continue
                after, megabytes = score(made, data), sum(file_megabytes(str(p)) for p in made)
            points, points_half = (100 * value for value in paired(before, after, "correct"))
            loss, loss_half = paired(before, after, "loss")
            missed = points < -MOST_POINTS if figure == "accuracy" else loss > MOST_ENTROPY * entropy
            bad = bad or missed
            print(f"| {name} | {Path(recipe).stem} | {megabytes:.2f} | {100 * accuracy + points:.2f} | {points:+.2f} ({points - points_half:+.2f} to "
                  f"{points + points_half:+.2f}) | {entropy + loss:.4f} | {100 * loss / entropy:+.2f} % ({100 * (loss - loss_half) / entropy:+.2f} to "
                  f"{100 * (loss + loss_half) / entropy:+.2f} %) | {'missed' if missed else ''} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
