#!/usr/bin/env bash
# The whole road on the pictures in examples/: convert, fine-tune limbnet-s, evaluate, draw; then prune, retrain, quantise.
set -euo pipefail

out=demo # specs/demo.yaml looks for its records there
unset OMP_NUM_THREADS # the demonstration may use every core
rm -rf "$out"
mkdir -p "$out"

echo "== 1. COCO keypoints to records and masks"
limbnet dataset_convert -d specs/dataset_examples.json -o "$out/records/train" -m train --generate_masks -r "$out/records"

echo "== 2. Fine-tune limbnet-s"
limbnet train -e specs/demo.yaml -r "$out/model"

echo "== 3. Average precision on the same pictures"
limbnet evaluate -i specs/infer_tiny.yaml -d specs/dataset_examples.json -m "$out/model/bpnet_model.tlt" -r "$out/evaluation"

echo "== 4. Draw what it sees"
limbnet inference -i specs/infer_tiny.yaml -m "$out/model/bpnet_model.tlt" --input_type dir --input examples/images \
    --results_dir "$out/inference" --dump_visualizations

echo "== 5. Prune, retrain, export and quantise, and compare"
python scripts/chain.py -o "$out/chain" -e specs/demo.yaml --model "$out/model/bpnet_model.tlt" --retrain_epochs 24

cat <<END

Done. Look at:
  $out/inference/images_annotated/   the pictures with skeletons
  $out/inference/detections.json     every person's joints
  $out/evaluation/results.csv        average precision
  $out/model/                        the model, its checkpoints, metrics.csv and TensorBoard events
  $out/chain/                        the pruned, exported and quantised files, and chain.json: the table above
END
