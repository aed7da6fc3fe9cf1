"""Show an answer while it is made, and stop early when enough has been said."""

from pathlib import Path

from xverse_v import load

IMAGES = Path(__file__).parent / "images"
MOST_CHARACTERS = 60

model = load("nano")
with model.stream(IMAGES / "shapes.png", "What is in the image?") as stream:
    shown = 0
    for chunk in stream:
        print(chunk.text, end="", flush=True)
        shown += len(chunk.text)
        if shown > MOST_CHARACTERS:
            stream.cancel()  # may also be called from another thread; the text so far is kept
print()
print(f"ended by: {stream.answer.finish_reason}")
