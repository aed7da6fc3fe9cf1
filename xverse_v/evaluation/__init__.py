"""The evaluation room: benchmarks asked, answers scored, every number with all that could have moved it.

contract.py has the words of the room. From data to a number: `pick` finds a benchmark and its file, `plan` its rows,
`run` asks a model and keeps the answers (`predictions`), `bundle` is the folder that results, `scored` scores it, and
`verify`, `diff`, `export` and `report` read it. Nothing is imported here, so a name costs what it needs and no more.
"""
