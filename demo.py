"""The release's demo line: `python demo.py --cfg-path ./eval_configs/vxverse_xverse_hd_eval.yaml --gpu-id 0`."""

import sys

from xverse_v.cli.demo import release_main

if __name__ == "__main__":
    sys.exit(release_main())
