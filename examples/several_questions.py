"""Several questions about one image. The image is computed once; every later question starts behind it."""

from pathlib import Path

from xverse_v import load

IMAGES = Path(__file__).parent / "images"
QUESTIONS = ("Which bar is the highest?", "Which bar is the lowest?", "红色柱子的值是多少？")

model = load("nano")
for question in QUESTIONS:
    answer = model.ask(IMAGES / "bars.png", question)
    receipt = answer.receipt
    print(f"{question}  {answer.text}  ({receipt.cached_tokens} of {receipt.prompt_tokens} tokens were cached)")

# A conversation also remembers what was said; its next turn starts behind all of it.
chat = model.chat()
print(chat.say("What kind of chart is this?", images=(IMAGES / "bars.png",)).text)
print(chat.say("Which bar is the highest?").text)
