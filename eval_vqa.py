"""The release's line, as it stands: python ./eval_vqa.py --cfg-path YAML --dataset gqa[,okvqa]. See docs/eval.md."""

import sys

from xverse_v.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "release", *sys.argv[1:]]))
