"""A batch run with a stand-in engine, as a process of its own that the tests kill: python killable.py IN OUT DELAY."""

import sys
import time
import zlib
from pathlib import Path

from PIL import Image

from xverse_v.batch import InputIndex, OutputFile, run_batch

SETTINGS = {"model": "stand-in", "temperature": 0.0}


def answer(questions):
    for place, question in enumerate(questions):
        time.sleep(float(sys.argv[3]))
        # Long answers, so that a kill can fall inside a write.
        padding = "x" * (zlib.crc32(question.id.encode()) % 2000)
        yield place, {"answer": f"{question.text} {question.images[0].width} {padding}"}


def open_image(name):
    return Image.new("RGB", (int(name), 1))


if __name__ == "__main__":
    index = InputIndex.scan(Path(sys.argv[1]))
    with OutputFile(Path(sys.argv[2]), SETTINGS) as output:
        run_batch(index, output, answer=answer, open_image=open_image)
    print("finished")
