#!/usr/bin/env bash
# Make limbnet-s and limbnet-m as they ship, from ImageNet's weights: several hours on two CPU cores. Started again, it goes on.
#
#   bash scripts/train_shipped.sh
#
# The head of specs/limbnet_s.yaml says where the data lie. The files in src/limbnet/weights are replaced.
set -euo pipefail

shipped=src/limbnet/weights
sources="COCO 2017 keypoints (214 pictures), Leeds Sports Pose Extended (9,947), everyday scenes of Flickr8k (993); see MODEL_CARD.md"
measured=(-i specs/infer_limbnet_s.yaml -d specs/dataset_coco_mini.json --data "$sources")

limbnet train -e specs/limbnet_s.yaml -r models/limbnet_s # seed 42
limbnet train -e specs/limbnet_s_longer.yaml -r models/limbnet_s_longer # seed 43
python scripts/average_weights.py models/limbnet_s_longer/model.best.tlt models/limbnet_s_longer/limbnet-s.tlt \
    --half -o models/limbnet_s_mean.tlt
limbnet train -e specs/limbnet_s_third.yaml -r models/limbnet_s_third # seed 44; three stages, of which two ship
python scripts/ship_weights.py -m models/limbnet_s_third/limbnet-s-three-stages.tlt --stages 2 --scales 0.5,1 "${measured[@]}" \
    --size 384,512 --size 256,320 --size 288,384 --size 352,448 -o $shipped/limbnet-s.tlt \
    --note "315,392 samples from ImageNet weights by specs/limbnet_s.yaml, specs/limbnet_s_longer.yaml and \
specs/limbnet_s_third.yaml, whose first two stages these are: a first look and a start for fine-tuning."

limbnet train -e specs/limbnet_m.yaml -r models/limbnet_m # seed 45; begins with limbnet-s as it ships
python scripts/average_weights.py $shipped/limbnet-s.tlt models/limbnet_m/limbnet-m.tlt -o models/limbnet_m_mean.tlt
limbnet train -e specs/limbnet_m_last.yaml -r models/limbnet_m_last # seed 46
python scripts/average_weights.py models/limbnet_m_mean.tlt models/limbnet_m_last/limbnet-m.tlt -o models/limbnet_m_mean_last.tlt
python scripts/ship_weights.py -m models/limbnet_m_mean_last.tlt "${measured[@]}" \
    --size 384,512 --size 288,384 -o $shipped/limbnet-m.tlt \
    --note "6,144 samples by specs/limbnet_m_last.yaml from the mean of limbnet-s and of 36,864 samples by \
specs/limbnet_m.yaml, then the mean of both: a first look and a start for fine-tuning."

for name in limbnet-s limbnet-m; do
    limbnet export -m $name --data_type int8 --cal_image_dir data/coco-mini/images/train --batches 100 -d 384,512,3 \
        --cal_cache_file models/$name.cal.bin --overwrite -o models/$name.int8.onnx
    cp models/$name.int8.onnx $shipped/
done
