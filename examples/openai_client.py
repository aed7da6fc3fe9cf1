"""The official openai package against `xverse-v serve`: start the server, ask twice, see what was cached, stop it.

Needs pip install 'xverse-v[serve]' openai. With a server that runs already, only the middle part is of interest.
"""

import base64
import re
import subprocess
import sys
from pathlib import Path

from openai import OpenAI

IMAGE = Path(__file__).parent / "images" / "shapes.png"

# Port 0 takes a free one; the first line of the log says which.
command = [sys.executable, "-m", "xverse_v", "serve", "--port", "0"]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as server:
    try:
        address = re.search(r"http://\S+/v1", server.stderr.readline())[0]
        # While the model is loading the server says 503 and when to come again; the client waits as it is told.
        client = OpenAI(base_url=address, api_key="none", max_retries=50)
        url = "data:image/png;base64," + base64.b64encode(IMAGE.read_bytes()).decode()
        for question in ("What colour is the circle?", "How many shapes are there?"):
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
            reply = client.chat.completions.create(model="nano", messages=[{"role": "user", "content": content}])
            cached = reply.usage.prompt_tokens_details.cached_tokens
            print(f"{question}  {reply.choices[0].message.content}  ({cached} tokens were cached)")
    finally:
        server.terminate()
