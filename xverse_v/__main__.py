"""``python -m xverse_v`` is the command ``xverse-v``."""

import sys

from xverse_v.cli import main

sys.exit(main())
