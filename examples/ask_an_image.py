"""Ask one question about one image, and see what the answer took."""

from pathlib import Path

from xverse_v import load

IMAGES = Path(__file__).parent / "images"

model = load("nano")  # or the folder that `xverse-v convert` made
answer = model.ask(IMAGES / "shapes.png", "What colour is the circle?")

print(answer.text)
receipt = answer.receipt
print(f"{receipt.prompt_tokens} tokens in, {receipt.completion_tokens} out, ended by {answer.finish_reason}")
for image in receipt.images:
    print(f"{image.width}x{image.height}: {image.views} view(s), {image.tokens} image tokens")
