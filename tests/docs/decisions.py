"""How each command of the documentation is run by the tests where it is not run as it stands, and which are not run.

A command that is named nowhere here is run as it is printed. `WAYS` says what is put in place of a reader's own names,
which numbers are made small, and what to expect; `NOT_RUN` has the rest, each with its reason. The tests refuse an
entry that no page has use for. Nothing is run here; `reader.py` makes the files that are named.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """`swaps`: what stands on the page -> what is typed here. `more`: words added at the end. `first`: shell that is
    run before. `may_say`: an error code with which the command may be refused, as its page says. `asked_at`: the
    command is a server, done when this path has answered and a Ctrl-C has ended it. {port}, {server} and {home} are
    filled in: a free port, the address of a running `xverse-v serve`, the folder with LMUData."""

    swaps: tuple[tuple[str, str], ...] = ()
    more: str = ""
    first: str = ""
    stdin: str = ""
    may_say: str = ""
    asked_at: str = ""
    llamacpp: bool = False


def _swap(*pairs: str, more: str = "", asked_at: str = "", llamacpp: bool = False) -> Way:
    """`_swap("FOLDER", "mine", "N", "8")`: what stands there and what is typed, in turns."""
    return Way(tuple(zip(pairs[::2], pairs[1::2], strict=True)), more, asked_at=asked_at, llamacpp=llamacpp)


AS_PRINTED = Way()
SERVED = "another"  # what the running server calls its model
_TWO = "--nproc-per-node 2"
_SMALL_RUN = "optimisation.steps=2 optimisation.warmup_steps=0 data.global_batch=2"
_ON_CPU = "model=FOLDER data.workers=0 data.max_length=1024 distribution.device=cpu distribution.dtype=float32"
_LORA = f"{_SMALL_RUN} {_ON_CPU} checkpoints.every=1"
_NANO = "optimisation.steps=1 optimisation.warmup_steps=0 data.global_batch=2"
_EIGHT = (
    f"{_NANO} {_ON_CPU} data.sources.0.path=my.json data.pack_length=2048 "
    "distribution.attention=sdpa logs.tensorboard=false"
)
_OURS = "http://127.0.0.1:8000/v1"
# What this machine can do at most is measured by `roofline` alone: ten seconds a command are saved.
_SPEED = ("xverse-v speed", "python -m tests.docs.many speed")
_ANSWERS = "--views 1 --new-tokens 3 --repeat 1"
_IN_CHAT = """What is it?
/image before.png
What has changed?
/tiles
/retry
/undo
/system Be brief.
/save
/reset
/help
//help is a word
/quit
"""

WAYS: dict[str, Way] = {
    # Asking
    "xverse-v ask --max-new-tokens N": _swap("N", "8"),
    "xverse-v chat cat.jpg": Way(stdin=_IN_CHAT),
    # Quantised: whether a model this small gains anything changes from run to run; if not, it is refused as told.
    'xverse-v ask cat.jpg "What is it?" --model ./xverse-v-13b --quantise int8': Way(may_say="E860"),
    "xverse-v verify ./xverse-v-13b --quantised int8": Way(more="--count 2"),
    "xverse-v verify FOLDER --quantised int8": Way(more="--count 1"),
    "xverse-v verify FOLDER --quantised int8|int4 [--questions FILE.jsonl] [--count N] [--json]": _swap(
        *("int8|int4", "int4", "[--questions FILE.jsonl]", "--questions examples/questions.jsonl"),
        *("[--count N]", "--count 2", "[--json]", "--json"),
    ),
    "python benchmarks/quantised_decode.py --layers 2 --tokens 6": _swap("2", "1", "6", "1", more="--kinds int8"),
    # Weights
    "xverse-v convert --clip DIR --llm DIR --adapters FILE --out DIR": _swap(
        *("--clip DIR", "--clip parts/clip-vit-tiny-patch14", "--llm DIR", "--llm parts/XVERSE-tiny-Chat"),
        *("FILE", "parts/adapter_and_lora.bin", "--out DIR", "--out converted"),
    ),
    "xverse-v convert --cfg-path eval_configs/vxverse_xverse_hd_eval.yaml --out DIR": _swap("DIR", "of-two-files"),
    "xverse-v plan --model 13b --image 1920x1080 --no-reuse --batch 8 --gpus N --shard full --device-memory 80GB": (
        _swap("N", "8")
    ),
    # Training
    "xverse-v data check DATA... [--model MODEL --max-length N] [--against BENCHMARK] [--fix OUT]": _swap(
        *("DATA...", "my.json", "[--model MODEL --max-length N]", "--model nano --max-length 1536"),
        *("[--against BENCHMARK]", "--against {home}/LMUData/MMStar.tsv", "[--fix OUT]", "--fix mended.json"),
    ),
    "xverse-v data show DATA N --model MODEL": _swap("DATA N", "my.json 1", "MODEL", "nano"),
    "xverse-v data encode DATA... --model MODEL --out STORE": _swap("DATA...", "my.json", "MODEL", "nano"),
    "python -m tests.training.data.measure_packing": Way(more="8 1 4"),
    "xverse-v train recipes/lora_13b.yaml data.sources.0.path=my.json --dry-run": Way(more=_ON_CPU),
    "xverse-v train recipes/lora_13b.yaml data.sources.0.path=my.json": Way(more=_LORA),
    "xverse-v train recipes/lora_13b.yaml data.sources.0.path=my.json --resume": Way(
        more=_LORA, first="rm -r runs/lora_13b/checkpoints/step-00000002"
    ),
    "torchrun --nproc-per-node 8 --max-restarts 3 -m xverse_v.training recipes/8x80gb.yaml key=value ... [--resume]": (
        _swap("--nproc-per-node 8", _TWO, "key=value ... [--resume]", _EIGHT)
    ),
    "xverse-v export RUN --merge --out FOLDER": _swap("RUN", "runs/lora_13b", "--out FOLDER", "--out merged"),
    "xverse-v export RUN --out FOLDER": _swap("RUN", "runs/lora_13b", "--out FOLDER", "--out kept"),
    "xverse-v export gguf FOLDER --out FILE": _swap("FILE", "decoder.gguf"),
    # The built-in model's own recipe, a step of each stage; the page's first step, hours of training, is left out.
    "python -m xverse_v.nano.data data/nano": Way(more="--pairs 16 --conversations 16 --workers 1"),
    "xverse-v train recipes/nano/pretrain.yaml": Way(more=f"{_NANO} model=FOLDER run=runs/nano-pretrain-again"),
    "xverse-v train recipes/nano/pretrain.yaml model=nano": Way(more=_NANO),
    "xverse-v train recipes/nano/finetune.yaml": Way(more=_NANO),
    "xverse-v train recipes/nano/polish.yaml": Way(more=_NANO),
    "python -m xverse_v.nano.evaluate models/nano --out models/nano-scores.json": Way(more="--questions 1"),
    "python -m xverse_v.nano.build ship models/nano --scores models/nano-scores.json --out FOLDER": (
        _swap("FOLDER", "shipped")
    ),
    "python -m xverse_v.nano.benchmarks OUT": _swap("OUT", "own-tsv", more="--questions 1 --rows scenes"),
    # make: that it knows the target and what it would do; what that is stands on the pages as commands of their own.
    "make nano": _swap("make", "make --dry-run"),
    "make speed": _swap("make", "make --dry-run"),
    "make test-vllm": _swap("make", "make --dry-run"),
    # Serving
    "xverse-v serve": Way(more="--port {port}", asked_at="/health"),
    "xverse-v serve --model FOLDER --port 9000": _swap("9000", "{port}", asked_at="/v1/models"),
    "xverse-v serve --backend llamacpp --model FOLDER": Way(more="--port {port}", asked_at="/health", llamacpp=True),
    "xverse-v serve --quantise int8": Way(more="--port {port}", asked_at="/health", may_say="E860"),
    f"xverse-v serve --backend openai --upstream {_OURS}": _swap(
        _OURS, "{server}", more="--port {port}", asked_at="/health"
    ),
    "xverse-v serve --backend openai --upstream http://127.0.0.1:8001/v1": _swap(
        "http://127.0.0.1:8001/v1", "{server}", more="--port {port}", asked_at="/v1/models"
    ),
    "python benchmarks/serve_load.py": Way(more="--clients 2 --requests 2 --alone 1 --rounds 1 --only shared"),
    "xverse-v demo": Way(more="--port {port}", asked_at="/config"),
    "python demo.py --cfg-path ./eval_configs/vxverse_xverse_hd_eval.yaml --gpu-id 0": Way(
        more="--server_port {port}", asked_at="/config"
    ),
    # Evaluation
    "xverse-v eval run --data NAMES --work-dir DIR": _swap("NAMES", "MMStar", "DIR", "others"),
    "xverse-v eval score DIR...": _swap("DIR...", "results others"),
    "xverse-v eval report DIR...": _swap("DIR...", "results others"),
    "xverse-v eval diff A B": _swap("A B", "results results"),
    "xverse-v eval verify DIR...": _swap("DIR...", "results others"),
    "xverse-v eval export DIR... --out DIR": _swap("DIR... --out DIR", "results --out exported"),
    "xverse-v eval export --format xlsx": Way(more="results --out exported-too"),
    "xverse-v eval run --data GQA=/data/testdev.json": _swap(
        "/data/testdev.json", "{home}/LMUData/GQA/testdev_balanced_questions.json"
    ),
    "torchrun --nproc-per-node 8 -m xverse_v eval run --model FOLDER --data MMStar --work-dir results": (
        _swap("--nproc-per-node 8", _TWO)
    ),
    "xverse-v eval score results --judge-url http://localhost:8000/v1 --judge-model NAME": _swap(
        "http://localhost:8000/v1", "{server}", "NAME", SERVED
    ),
    "python benchmarks/eval_throughput.py": Way(more="--images 1 --questions 2"),
    'OPENAI_API_KEY=... xverse-v eval run --model "https://api.example.com/v1#some-model" --data MMStar,GQA '
    "--work-dir W": _swap("https://api.example.com/v1#some-model", f"{{server}}#{SERVED}"),
    "OPENAI_API_KEY=... xverse-v eval score W --judge-url https://api.example.com/v1 --judge-model some-model": _swap(
        "https://api.example.com/v1", "{server}", "some-model", SERVED
    ),
    f"xverse-v eval score W --judge-url {_OURS} --judge-model local-judge": _swap(
        _OURS, "{server}", "local-judge", SERVED
    ),
    "xverse-v eval report W... --out DIR": _swap("W... --out DIR", "W --out report-too"),
    "python -m xverse_v.nano.benchmarks tsv --questions 24 --rows scenes,charts": _swap("24", "2"),
    f'xverse-v eval run --model "{_OURS}#nano" --data tsv/nano_scenes.tsv --work-dir W --concurrency 4': _swap(
        f"{_OURS}#nano", f"{{server}}#{SERVED}"
    ),
    # Speed
    "xverse-v speed generate --size middle --peer release --peer transformers --peer llamacpp": _swap(
        *_SPEED, "middle", "tiny", more=_ANSWERS, llamacpp=True
    ),
    "xverse-v speed generate --size middle --int8": _swap(*_SPEED, "middle", "tiny", more=_ANSWERS),
    "xverse-v speed images": _swap(*_SPEED, more="--repeat 1"),
    "xverse-v speed load --model FOLDER": _swap(*_SPEED, more="--repeat 1"),
    "xverse-v speed serve --clients 32": _swap(*_SPEED, "32", "2", more="--requests 4"),
    "xverse-v speed train --size small": _swap(*_SPEED, "small", "tiny", more="--repeat 1 --views 1"),
    "xverse-v speed growth --size small --plot growth.png": _swap(*_SPEED, "small", "tiny", more="--repeat 1"),
    "xverse-v speed gpu --size tiny --device cpu --dtype float32 --out FILE.md": _swap(*_SPEED, more="--context 64"),
    # llama.cpp
    "xverse-v export gguf FOLDER --type q4_k_m --out FOLDER/gguf/q4_k_m.gguf": Way(llamacpp=True),
    'xverse-v ask cat.jpg "What is it?" --model FOLDER --backend llamacpp': Way(llamacpp=True),
    # The page says that this llama.cpp computes CLIP wrongly, and how it is told; a mended one passes.
    "xverse-v export gguf FOLDER --mmproj --out mmproj.gguf --probe FOLDER/gguf/q4_k_m.gguf": Way(
        may_say="E842", llamacpp=True
    ),
}

# A key that ends with * is the beginning of several commands.
_VLLM = "vLLM has an environment of its own: `make test-vllm` runs a real one, tests/engines/vllm_cases.py"
NOT_RUN: dict[str, str] = {
    "pip install *": "installs packages; that the extras exist is tested",
    "git clone *": "needs a network",
    "python -m lmms_eval *": "lmms-eval is not installed; tests/evaluation/plugins/test_plugin_lmms_eval.py",
    "python -m venv .venv-vllm": _VLLM,
    ".venv-vllm/bin/pip *": _VLLM,
    "VLLM_CPU_KVCACHE_SPACE=1 *": _VLLM,
    "python -m vllm.entrypoints.openai.api_server": _VLLM,
    "vllm serve *": _VLLM,
    "ray start *": _VLLM,
    "llama-server *": "another program, which the page says was not tested",
    "xverse-v eval run --model ./llava-1.5-7b-hf *": "such a folder is measured in tests/evaluation/models",
    "xverse-v speed report *": "all parts of speed once more, a quarter of an hour; tests/cli/test_speed.py",
    "xverse-v speed gpu --out *": "needs a card of 80 GB; the line for a CPU is run",
    "python -m xverse_v.nano.build parts": "trains for more than an hour; tests/nano/test_training.py",
    "python -m xverse_v.nano.build start *": "needs what `parts` leaves; tests/nano/test_training.py",
    "python -m xverse_v.nano.ablate": "names the program: what it needs are folders of whole runs",
    "python -m xverse_v.nano.evidence": "names the program: what it needs are scores and logs of whole runs",
    "xverse-v eval run --model nano": "names the model; what it is asked stands in the commands above it",
    "xverse-v export RUN --merge": "names the flag; the command stands on the page of export",
}
