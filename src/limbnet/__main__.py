"""`python -m limbnet` is the command `limbnet`."""

from __future__ import annotations

import sys

from limbnet.cli import main

sys.exit(main())
