"""The serving room: an OpenAI-compatible server around the engine, and the web page. Imported when one of them runs."""
