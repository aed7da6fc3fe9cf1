"""Speed against physics: what work needs at least, what this machine can do at most, and what was measured between.

`roofline` counts, `ceilings` and the measuring files time, `records` says under which conditions. Nothing here prints.
"""
