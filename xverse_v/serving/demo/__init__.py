"""The web demo: one loaded model, a page to talk to it, many visitors.

What crosses: an `Assistant` and `DemoOptions` in, a running page out (app.py). Nothing here is imported unless the
demo is started: it needs Gradio, FastAPI and uvicorn (`pip install "xverse-v[demo]"`).

- desk.py: the one thread that uses the model, and the line in front of it
- visits.py: what is kept for each visitor, and how it is forgotten
- talk.py: what the chat's buttons do
- tiles.py, heat.py, confidence.py, receipt.py: the panels, each facts in and escaped HTML (or text) out
- page.py, controls.py: the Gradio page and its wiring; texts.py: every word on it in two languages
- guard.py: what is let in over HTTP; app.py: all of it together
"""
