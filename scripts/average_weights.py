"""Average the weights of models from one training, as the mean often does better on new pictures than each of them.

Izmailov et al. 2018 ("Averaging weights leads to wider optima and better generalization"). The statistics of batch norm
are averaged like the weights; skeleton, settings and spec are those of the last file.

    python scripts/average_weights.py models/limbnet_s_longer/model.best.tlt \
        models/limbnet_s_longer/limbnet-s.tlt -o models/limbnet-s.mean.tlt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from limbnet.errors import LimbnetError
from limbnet.models.checkpoint import load_model, save_model


def main() -> None:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="files of one architecture")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    parser.add_argument("--half", action="store_true", help="kernels in half precision, as files that ship have them")
    args = parser.parse_args()
    loaded = [load_model(path) for path in args.models]
    states = [one.model.state_dict() for one in loaded]
    for path, state in zip(args.models, states, strict=True):
        if {name: tensor.shape for name, tensor in state.items()} != {n: t.shape for n, t in states[0].items()}:
            parser.error(f"'{path}' is another network than '{args.models[0]}'")
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if last.is_floating_point() else last
        for name, last in states[-1].items()
    }
    loaded[-1].model.load_state_dict(mean)
    save_model(args.output, loaded[-1].model, loaded[-1].info, dtype=torch.float16 if args.half else None)
    print(f"Written: {args.output}, the mean of {len(loaded)} models")


if __name__ == "__main__":
    try:
        main()
    except LimbnetError as error:
        sys.exit(str(error))
