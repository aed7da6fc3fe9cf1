"""The model as any other of transformers: importing xverse_v makes its Auto classes know it. No remote code is run."""

from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import xverse_v  # noqa: F401 - registers the model with the Auto classes
from xverse_v.inference.loading import resolve_model

folder = resolve_model("nano")  # any folder made by `xverse-v convert` or `xverse-v export` does as well
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

image = Image.open(Path(__file__).parent / "images" / "shapes.png")
content = [{"type": "image", "image": image}, {"type": "text", "text": "What colour is the circle?"}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}],
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
)
with torch.inference_mode():
    ids = model.generate(**inputs, max_new_tokens=20, do_sample=False)
print(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
