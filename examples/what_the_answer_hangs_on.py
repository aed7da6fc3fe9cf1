"""What the model is shown of an image, and on which part an answer hangs: blank each tile, score the answer again.

python examples/what_the_answer_hangs_on.py [SHEET.png]      also writes the contact sheet of all views
"""

import math
import sys
from pathlib import Path

from xverse_v import load
from xverse_v.inference.evidence import measure
from xverse_v.inference.prompt import Message
from xverse_v.inspector.report import inspect_tiles
from xverse_v.inspector.sheet import contact_sheet
from xverse_v.media import open_image

IMAGE = Path(__file__).parent / "images" / "panorama.png"
QUESTION = "What text is on the orange tag?"

model = load("nano")
answer = model.ask(IMAGE, QUESTION)
print(f"{QUESTION}  {answer.text}")

evidence = measure(model, [Message("user", QUESTION, (IMAGE,))], answer.token_ids)
for row in range(evidence.rows):
    parts = [part for part in evidence.parts if part.row == row]
    print("  ".join(f"÷{math.exp(-part.change):,.1f}" for part in parts))  # ÷20: a twentieth as likely without it

if len(sys.argv) > 1:
    contact_sheet(inspect_tiles(open_image(IMAGE), model.prompts.processor)).save(sys.argv[1])
