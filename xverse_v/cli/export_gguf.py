"""`xverse-v export`: what a run has trained as a folder (`export RUN`), and a folder as GGUF (`export gguf FOLDER`).

Parses, calls, prints; training/export.py and engines/gguf/ do the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from .common import Json, note, passing_note, say, show, show_json
from .export import export

GgufType = Literal["f32", "f16", "bf16", "q8_0", "q4_k_m"]
_RUN = "run"


class RunUnlessNamed(TyperGroup):
    """`export RUN ...` means `export run RUN ...`: what is exported is a run unless a format is named first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if named else [_RUN, *args])


exporting = typer.Typer(
    cls=RunUnlessNamed,
    help="Write a run as a model folder (export RUN), or a model folder as GGUF for llama.cpp (export gguf FOLDER).",
    no_args_is_help=True,
)
exporting.command(_RUN, help="What a run has trained as a model folder. The word run may be left out.")(export)


@exporting.command("gguf")
def gguf(
    folder: Annotated[str, typer.Argument(metavar="nano|FOLDER", help="The model folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write; it must not exist.")],
    type_: Annotated[
        GgufType,
        typer.Option("--type", help="How weights are stored. q4_k_m needs llama.cpp, the others do not."),
    ] = "f16",
    mmproj: Annotated[
        bool,
        typer.Option("--mmproj", help="Vision tower and projector instead of the decoder, for a fixed llama.cpp."),
    ] = False,
    probe: Annotated[
        Path | None,
        typer.Option(
            "--probe",
            metavar="DECODER",
            help="With --mmproj: then let this machine's llama.cpp encode an image, and compare. DECODER is the other "
            "file.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Write the decoder of a model folder as a GGUF file for llama.cpp.

    The file holds the decoder, the tokenizer and the prompt form. It gets its name when it has been read back.

    \b
    Examples
      xverse-v export gguf ./xverse-v-13b --type q4_k_m --out ./xverse-v-13b/gguf/q4_k_m.gguf
      xverse-v ask cat.jpg "What is it?" --model ./xverse-v-13b --backend llamacpp
      xverse-v export gguf ./xverse-v-13b --mmproj --out mmproj.gguf
    """
    with passing_note(f"reading {folder} ..."):
        from xverse_v.engines.gguf.export import export_decoder, export_vision
        from xverse_v.inference.loading import resolve_model

    source = resolve_model(folder)
    with passing_note(f"writing {out} ..."):
        report = (export_vision if mmproj else export_decoder)(source, out, type_)
    if mmproj and probe is not None:
        from xverse_v.engines.llamacpp.probe import check_vision

        with passing_note("encoding an image with llama.cpp ..."):
            cosine = check_vision(source, probe, out)
        note(
            say(
                f"llama.cpp here encodes an image as we do: cosine {cosine:.5f}",
                f"此处的 llama.cpp 与我们编码一致：余弦 {cosine:.5f}",
            )
        )
    if json_:
        show_json(report.as_dict())
        return
    types = ", ".join(f"{count} {name}" for name, count in sorted(report.types.items()))
    show(f"{report.path}: {report.part}, {report.tensors} tensors ({types}), {report.bytes / 2**20:.1f} MiB")
    show(f"weights id: {report.weights_id}")
    if report.texts:
        same = report.texts - len(report.differing)
        show(f"tokenizer: {same} of {report.texts} sample texts get the same ids from llama.cpp's rules")
    for text in report.differing:
        note(say(f"other ids there: {text!r}", f"在那里编号不同：{text!r}"))
