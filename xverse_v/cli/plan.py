"""`xverse-v plan`: memory and time of a run before it is started. Parses, calls, prints; weights/plan*.py does it.

No weights are read: a folder's `config.json` is enough, and the published sizes need no folder at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xverse_v.errors import error

from .common import Json, note, say, show_json
from .plan_recipe import RECIPE_KEYS, Asked, RecipeRun, read_run
from .plan_text import GB, document, print_plan

if TYPE_CHECKING:
    from xverse_v.weights.plan import InferenceOptions
    from xverse_v.weights.plan_fit import Change
    from xverse_v.weights.plan_machine import Memory
    from xverse_v.weights.plan_table import Device, Plan
    from xverse_v.weights.plan_time import Duration, Rates
    from xverse_v.weights.plan_training import TrainingOptions
    from xverse_v.weights.shapes import ModelShape

_WORK = "What is run"
_MACHINE = "On what"
_TRAINING = "Training stages"
_TIME = "Time (none is printed without rates)"


def plan(
    context: typer.Context,
    stage: Annotated[
        Literal["infer", "pretrain", "finetune", "full", "train"],
        typer.Argument(
            help="infer: answer. pretrain: train the projector. finetune: projector and LoRA. "
            "full: projector and decoder. train: what a recipe says."
        ),
    ] = "infer",
    recipe: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE.yaml key=value ...]", help="With train only.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="nano|7b|13b|65b|FOLDER",
            help="A size, or a folder (config.json). Default: nano; with train, the recipe's.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="WxH", help="An image's pixels, again for each image.", rich_help_panel=_WORK),
    ] = None,
    question_tokens: Annotated[
        int, typer.Option(help="Text of one turn, the template's words included.", rich_help_panel=_WORK)
    ] = 64,
    new_tokens: Annotated[
        int | None,
        typer.Option(help="Longest answer; in training, its length. Default: 512, or 128.", rich_help_panel=_WORK),
    ] = None,
    turns: Annotated[int, typer.Option(help="Questions of one conversation.", rich_help_panel=_WORK)] = 1,
    batch: Annotated[int, typer.Option(help="Rows answered together.", rich_help_panel=_WORK)] = 1,
    requests: Annotated[
        int | None,
        typer.Option(help="Different ones in the run; caches fill up. Default: batch.", rich_help_panel=_WORK),
    ] = None,
    reuse: Annotated[
        bool, typer.Option(help="Keep images and their prefix for the next question.", rich_help_panel=_WORK)
    ] = True,
    max_tiles: Annotated[int, typer.Option(help="Most tiles of an image.", rich_help_panel=_WORK)] = 9,
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32", "int8", "int4"] | None,
        typer.Option(
            help="Of the weights; int8 and int4 on a CPU as --quantise holds them, on a GPU as engines do. "
            "Default, as in ask: float32 on a CPU, else the model's.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="Default: cuda with --device-memory or --gpus, else what is here.", rich_help_panel=_MACHINE),
    ] = None,
    device_memory: Annotated[
        str | None,
        typer.Option(metavar="24GB", help="Of one device. Default: what is free here now.", rich_help_panel=_MACHINE),
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="Default: 1.", rich_help_panel=_MACHINE)] = None,
    shard: Annotated[
        Literal["replicate", "full"],
        typer.Option(help="replicate: all of it on each GPU. full: split over them.", rich_help_panel=_MACHINE),
    ] = "replicate",
    micro_tokens: Annotated[
        int, typer.Option(help="Tokens of a micro-batch on one GPU.", rich_help_panel=_TRAINING)
    ] = 4096,
    checkpointing: Annotated[
        bool, typer.Option(help="Compute each layer twice instead of keeping it.", rich_help_panel=_TRAINING)
    ] = True,
    lora_rank: Annotated[int, typer.Option(rich_help_panel=_TRAINING)] = 128,
    lora_dropout: Annotated[float, typer.Option(rich_help_panel=_TRAINING)] = 0.05,
    loss_chunk: Annotated[
        int, typer.Option(help="Supervised tokens whose logits exist at one time.", rich_help_panel=_TRAINING)
    ] = 2048,
    cpu_offload: Annotated[
        bool, typer.Option("--cpu-offload", help="With --shard full: store in host memory.", rich_help_panel=_TRAINING)
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine first.", rich_help_panel=_TIME)
    ] = False,
    tflops: Annotated[float | None, typer.Option(help="Matrix products, in TFLOP/s.", rich_help_panel=_TIME)] = None,
    bandwidth: Annotated[float | None, typer.Option(help="Reading of memory, in GB/s.", rich_help_panel=_TIME)] = None,
    json_: Json = False,
) -> None:
    """Say what a run will take before it starts: memory item by item, what fits, and the smallest change that would.

    Numbers come from the model's configuration and from what the code holds at its worst moment; no weights are read.
    Memory is in GB of 10^9 bytes. A time is printed only from rates that are measured or given.
    """
    from xverse_v.weights.plan import FEATURE_BYTES, InferenceOptions
    from xverse_v.weights.plan_machine import Memory, free_memory, parse_bytes
    from xverse_v.weights.plan_training import TrainingOptions

    sizes = tuple(_size(text) for text in image or [])
    run = None
    if stage == "train":
        asked = Asked(model, gpus, _on_gpu(device_memory, gpus), sizes, question_tokens, new_tokens, turns)
        run = _recipe(context, recipe or [], asked)
    elif recipe:
        raise typer.BadParameter(say(f"only train takes {recipe[0]}", f"只有 train 接受 {recipe[0]}"))
    shape = run.shape if run else _shape(model or "nano")
    target = run.options.device if run else _device(device, device_memory, gpus, shard)
    wanted = run.options.dtype if run else dtype or ("float32" if target.kind == "cpu" else shape.dtype)
    options: InferenceOptions | TrainingOptions
    if run:
        options = run.options
    elif stage == "infer":
        options = InferenceOptions(
            images=sizes,
            question_tokens=question_tokens,
            new_tokens=512 if new_tokens is None else new_tokens,
            turns=turns,
            batch=batch,
            requests=batch if requests is None else requests,
            dtype=wanted,
            max_tiles=max_tiles,
            device=target,
            prefix_bytes=None if reuse else 0,
            feature_bytes=FEATURE_BYTES if reuse else 0,
        )
    else:
        assert stage != "train"
        options = TrainingOptions(
            stage=stage,
            images=sizes,
            question_tokens=question_tokens,
            new_tokens=128 if new_tokens is None else new_tokens,
            turns=turns,
            micro_tokens=micro_tokens,
            checkpointing=checkpointing,
            lora_rank=lora_rank,
            dropout=lora_dropout,
            dtype=wanted,
            max_tiles=max_tiles,
            device=target,
            loss_chunk=loss_chunk,
            offload=cpu_offload,
        )
    memory = Memory(parse_bytes(device_memory), "--device-memory") if device_memory else free_memory(target.kind)
    rates = _rates(measure, tflops, bandwidth, target, wanted)
    predicted, changes, times = _predict(shape, options, memory, rates)
    if run:
        predicted, changes = run.stamped(predicted), [run.in_its_words(change) for change in changes]
    if json_:
        show_json(document(predicted, memory, changes, rates, times))
    else:
        print_plan(predicted, memory, changes, rates, times)


def _predict(
    shape: ModelShape, options: InferenceOptions | TrainingOptions, memory: Memory, rates: Rates | None
) -> tuple[Plan, list[Change], list[Duration]]:
    from xverse_v.weights.plan import InferenceOptions, plan_inference
    from xverse_v.weights.plan_fit import changes_for_inference, changes_for_training
    from xverse_v.weights.plan_time import time_inference, time_training
    from xverse_v.weights.plan_training import plan_training

    if isinstance(options, InferenceOptions):
        times = time_inference(shape, options, rates) if rates else []
        return plan_inference(shape, options), changes_for_inference(shape, options, memory.bytes), times
    times = time_training(shape, options, rates) if rates else []
    return plan_training(shape, options), changes_for_training(shape, options, memory.bytes), times


def _shape(model: str) -> ModelShape:
    """A published size, the built-in model, or a folder's own `config.json`."""
    from xverse_v.weights.shapes import PUBLISHED, shape_from_folder

    if model.lower() in PUBLISHED:
        return PUBLISHED[model.lower()]
    from xverse_v.inference.loading import NANO, resolve_model

    if model != NANO and not Path(model).is_dir():
        import difflib

        known = [NANO, *PUBLISHED]
        near = difflib.get_close_matches(model.lower(), known, n=1)
        raise error("E150", model=model, known=", ".join(known), suggestion=near[0] if near else "13b")
    return shape_from_folder(resolve_model(model), name=model)


def _recipe(context: typer.Context, given: list[str], asked: Asked) -> RecipeRun:
    """The recipe as options. Raises E164 for a flag whose value the recipe settles."""
    import torch

    if not given:
        raise typer.BadParameter(say("train needs a RECIPE.yaml; see recipes/", "train 需要 RECIPE.yaml；见 recipes/"))
    for parameter, key in RECIPE_KEYS.items():
        source = context.get_parameter_source(parameter)
        if source is not None and source.name == "COMMANDLINE":
            raise error("E164", flag=f"--{parameter.replace('_', '-')}", key=key)
    return read_run(Path(given[0]), given[1:], asked, _shape, torch.get_num_threads())


def _on_gpu(memory: str | None, gpus: int | None) -> bool:
    import torch

    return bool(memory) or (gpus or 1) > 1 or torch.cuda.is_available()


def _device(
    kind: Literal["cpu", "cuda"] | None, memory: str | None, gpus: int | None, shard: Literal["replicate", "full"]
) -> Device:
    import torch

    from xverse_v.weights.plan_table import Device

    if kind is None:
        kind = "cuda" if _on_gpu(memory, gpus) else "cpu"
    return Device(kind, 1 if gpus is None else gpus, shard, torch.get_num_threads())


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.strip().isdecimal() and height.strip().isdecimal()):
        raise error("E153", given=text, problem=say("expected WIDTHxHEIGHT in pixels", "应为 宽x高（像素）"))
    return int(width), int(height)


def _rates(measure: bool, tflops: float | None, bandwidth: float | None, device: Device, dtype: str) -> Rates | None:
    """Measured, or given in full, or none."""
    from xverse_v.weights.plan_time import Rates, measure_rates

    if measure:
        note(say("Measuring this machine for a few seconds.", "正在测量本机，需要几秒钟。"))
        return measure_rates(device.kind, dtype)
    if tflops is None and bandwidth is None:
        return None
    for flag, value, other in (("--tflops", tflops, "--bandwidth"), ("--bandwidth", bandwidth, "--tflops")):
        if value is None:
            raise error("E161", given=other, missing=flag)
        if not value > 0:
            raise error("E155", flag=flag, given=value, expected=say("a number above zero", "大于零的数"))
    assert tflops is not None and bandwidth is not None
    return Rates(tflops * 1e12, bandwidth * GB, "given: --tflops, --bandwidth")
