"""Scored run folders as a run leaves them, with numbers a test chooses."""

import json
from dataclasses import asdict

from xverse_v.evaluation.contract import Score


def made_run(work_dir, benchmark, value, *, model="nano", profile="vlmevalkit-2024-04", **facts):
    """WORK_DIR/MODEL/BENCHMARK/PROFILE with run.json and scores.json. `facts`: what differs from a complete run."""
    given = dict(rows=100, skipped=0, unmatched=0, judge="", beyond=0, md5="a", unit="%", note="", more=(), half=2.0)
    given |= facts
    folder = work_dir / facts.get("folder", "m") / benchmark / profile
    folder.mkdir(parents=True)
    model_facts = {"weights_id": facts.get("weights", "w1")}
    data = {"md5": given["md5"], "known_md5": "a"}
    run = {"benchmark": benchmark, "profile": profile, "data": data, "model": {"name": model, "facts": model_facts}}
    scores = [
        Score(
            name,
            number,
            number - given["half"],
            number + given["half"],
            given["rows"],
            given["skipped"],
            given["unmatched"],
            profile,
            "judge" if given["judge"] else "exact",
            given["judge"],
            given["unit"],
            given["note"],
        )
        for name, number in [("Overall", value), *given["more"]]
    ]
    counts = {"asked": 100, "answered": 100, "bad": 0, "left_out": 0, "beyond_limit": given["beyond"]}
    document = {"format": 1, "benchmark": benchmark, "profile": profile, "model": model, "bundle": "ab" * 32}
    document |= {"code": "c", "judge": given["judge"] or None, "counts": counts}
    (folder / "bundle.json").write_text(json.dumps({"bundle": document["bundle"]}))
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "scores.json").write_text(json.dumps(document | {"scores": [asdict(score) for score in scores]}))
    return folder
