"""Draw the people that a model finds in a folder's pictures on one sheet, as the pictures in docs/ were made.

python scripts/contact_sheet.py --input examples/images -o docs/limbnet-s.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

import limbnet
from limbnet.draw import contact_sheet
from limbnet.files import whole_file
from limbnet.models.shipped import DEFAULT_MODEL


def main() -> None:
    """Find, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, default=DEFAULT_MODEL, help="model file or name")
    parser.add_argument("--input", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="names without suffix; all when none")
    parser.add_argument("--columns", type=int, default=7, help="pictures beside one another")
    parser.add_argument("--width", type=int, default=1600, help="of the sheet, pixels")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JPEG to write")
    args = parser.parse_args()
    estimator = limbnet.load(args.model, device="cpu")
    paths = [path for path in sorted(args.input.glob("*.jpg")) if not args.only or path.stem in args.only]
    results = estimator.stream(paths, keep_pictures=True)
    drawn = [r.poses.draw(r.picture) for r in results if r.poses is not None and r.picture is not None]
    sheet = contact_sheet(drawn, columns=args.columns, width=args.width)
    with whole_file(args.output) as partial:
        Image.fromarray(sheet).save(partial, format="JPEG", quality=85)
    print(f"{len(drawn)} pictures: {args.output}")


if __name__ == "__main__":
    main()
