"""The release's line, as it stands: python ./eval_chat.py --cfg-path YAML. Text questions only. See docs/eval.md."""

import sys

from xverse_v.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "chat", *sys.argv[1:]]))
