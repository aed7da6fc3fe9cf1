"""What torchrun starts in a test: the trainer, whose rank 1 dies at step 4 of the first attempt."""

from __future__ import annotations

import os
import sys

from tests.training.test_train import stop_after_four
from xverse_v.training.__main__ import main

if __name__ == "__main__":
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
        stop_after_four(1)
    sys.exit(main(sys.argv[1:]))
