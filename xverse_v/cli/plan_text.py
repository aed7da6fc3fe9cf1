"""How a plan is printed: the table for people, the document for programs. Formats numbers, computes none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .common import say, show

if TYPE_CHECKING:
    from xverse_v.weights.plan_fit import Change
    from xverse_v.weights.plan_machine import Memory
    from xverse_v.weights.plan_table import Plan
    from xverse_v.weights.plan_time import Duration, Rates

GB = 1e9
SHOWN = 0.0005
"""Items below this share of the total are added up in one line; --json has them all."""


def document(
    predicted: Plan, memory: Memory, changes: Sequence[Change], rates: Rates | None, times: Sequence[Duration]
) -> dict[str, object]:
    return {
        **predicted.as_dict(),
        "memory_bytes": memory.bytes,
        "memory_source": memory.source,
        "fits": predicted.total_bytes <= memory.bytes,
        "changes": [change.as_dict() for change in changes],
        "rates": {"flops": rates.flops, "bandwidth": rates.bandwidth, "source": rates.source} if rates else None,
        "times_at_least": [duration.as_dict() for duration in times],
    }


def print_plan(
    predicted: Plan, memory: Memory, changes: Sequence[Change], rates: Rates | None, times: Sequence[Duration]
) -> None:
    facts = predicted.facts
    where = f"{facts['gpus']} x {predicted.device}, {facts['shard']}" if facts["gpus"] > 1 else predicted.device
    show(f"{predicted.model}: {predicted.stage}, {facts['dtype']}, {where}" + _after("; ", predicted.note))
    for line in _facts(predicted):
        show(f"  {line}")
    show()
    _print_table(predicted)
    show()
    worst = ", ".join(f"{phase.name} {(predicted.resident_bytes + phase.bytes) / GB:.3f}" for phase in predicted.phases)
    show(
        say("Worst moment: ", "占用最高的时刻：")
        + f"{predicted.worst.name}. "
        + say("Tensors in GB: ", "张量 GB：")
        + worst
    )
    show(f"{say('Memory', '内存')}: {_gb(memory.bytes)} ({memory.source})")
    spare = memory.bytes - predicted.total_bytes
    if spare >= 0:
        show(say(f"Fits, with {_gb(spare)} to spare.", f"放得下，还余 {_gb(spare)}。"))
    else:
        show(say(f"Does not fit: {_gb(-spare)} short.", f"放不下：还差 {_gb(-spare)}。"))
        _print_changes(changes)
    _print_times(rates, times)


def _facts(predicted: Plan) -> list[str]:
    """Images and tokens, in the words of the tiler."""
    facts = predicted.facts
    each = facts["image_tokens_per_view"]
    lines = []
    for size, views in zip(facts["images"], facts["views"], strict=True):
        line = f"{size}: {views} views = {views * each:,} image tokens"
        if cache := facts.get("cache_bytes_per_token"):
            line += f" = {views * each * cache / 2**30:.2f} GiB of KV cache"
        lines.append(line)
    if "prompt_tokens" in facts:
        prompt, whole, limit = facts["prompt_tokens"], facts["context_tokens"], facts["context_limit"]
        lines.append(
            f"prompt {prompt:,} + answer {whole - prompt:,} = {whole:,} of {limit:,} tokens, batch {facts['batch']}"
        )
    else:
        lines.append(
            f"micro-batch: {facts['samples']} samples x {facts['sample_tokens']:,} = {facts['tokens']:,} tokens, "
            f"{facts['supervised_tokens']:,} supervised; {facts['trainable_parameters']:,} parameters train; "
            f"checkpointing {'on' if facts['checkpointing'] else 'off'}"
        )
        if facts["host_bytes"]:
            lines.append(f"stored in host memory: {_gb(facts['host_bytes'])} over all GPUs of a replica")
    return lines + _recipe_lines(facts.get("recipe"))


def _recipe_lines(recipe: dict[str, Any] | None) -> list[str]:
    """What a recipe says of the whole run, and what was assumed because it does not say it."""
    if recipe is None:
        return []
    trains = ", ".join(f"{rule} {count:,}" for rule, count in recipe["trains"].items())
    steps, samples, tokens = recipe["steps"], recipe["samples_per_step"], recipe["tokens_per_step_at_most"]
    run = f"{steps:,} steps x {samples:,} samples, at most {tokens:,} tokens a step"
    return [f"{recipe['path']}: {recipe['stage']}; {run}", f"rules: {trains}", *recipe["notes"]]


def _print_table(predicted: Plan) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(say("item", "项目"))
    table.add_column(say("how it is counted", "计算方式"))
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column(say("share", "占比"), justify="right", no_wrap=True)
    total = predicted.total_bytes
    shown = [item for item in predicted.rows() if item.bytes >= SHOWN * total]
    for item in shown:
        table.add_row(item.name, item.formula, f"{item.bytes / GB:.3f}", f"{item.bytes / total:.1%}")
    rest = total - sum(item.bytes for item in shown)
    table.add_row(say("smaller items", "其余小项"), "", f"{rest / GB:.3f}", f"{rest / total:.1%}")
    table.add_section()
    table.add_row(say("total", "合计"), "", f"{total / GB:.3f}", "100%")
    console = Console(highlight=False, soft_wrap=False)
    console.print(table)


def _print_changes(changes: Sequence[Change]) -> None:
    if not changes:
        show(say("No change tried makes it fit.", "试过的各种改动都放不下。"))
        return
    show(say("The smallest changes that make it fit, gentlest first:", "能放下的最小改动，代价小的在前："))
    for change in changes:
        show(
            f"  {change.flags}: " + say("saves", "省下") + f" {_gb(change.saves)} -> {_gb(change.total)}; {change.cost}"
        )


def _print_times(rates: Rates | None, times: Sequence[Duration]) -> None:
    if rates is None:
        show(
            say(
                "No time without rates: --measure, or --tflops and --bandwidth.",
                "没有速率就不估算时间：--measure，或 --tflops 与 --bandwidth。",
            )
        )
        return
    given = f"{rates.flops / 1e12:.3g} TFLOP/s, {rates.bandwidth / GB:.3g} GB/s, {rates.source}"
    show(f"{say('Time, at least', '时间，至少')} ({given}):")
    for duration in times:
        show(f"  {duration.name}: {duration.seconds:.3g} s, {say('bound by', '受限于')} {duration.bound}")


def _after(separator: str, text: str) -> str:
    return separator + text if text else ""


def _gb(size: float) -> str:
    return f"{size / GB:.3g} GB" if size < 10 * GB else f"{size / GB:.1f} GB"
