"""`xverse-v demo`, and the release's own `python demo.py --cfg-path YAML`. Parses, calls, prints; serving/demo does the
work."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xverse_v.errors import LANGUAGE_VARIABLE, Language, XverseError, error, user_language

from .common import Device, Dtype, Model, load_assistant, note, passing_note, print_error, say
from .release_parts import DEFAULT_FOLDER, PartsFolder, folder_of_parts

if TYPE_CHECKING:
    from xverse_v.inference.assistant import Assistant
    from xverse_v.serving.demo.options import Example

RELEASE_PORT = 20029
MOST_EXAMPLES = 4

Host = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; beyond this machine only with --auth-file.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, metavar="N", help="Which port; 0 takes a free one.")]
AuthFile = Annotated[
    Path | None,
    typer.Option("--auth-file", metavar="FILE", help="Lines name:password; the page then asks for one of them."),
]


def demo(
    model: Model = "nano",
    host: Host = "127.0.0.1",
    port: Port = RELEASE_PORT,
    auth_file: AuthFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Talk about images on a web page that also shows tiles, evidence, confidence and the receipt.

    The page is for this machine alone unless you say otherwise, is never shared, loads nothing from elsewhere, and
    forgets a visitor's images when the page is closed. It speaks English or Chinese: --lang, else what the browser
    asks for.

    \b
    Examples
      xverse-v demo
      xverse-v demo --model ./xverse-v-13b --port 8080
      xverse-v demo --host 0.0.0.0 --auth-file names.txt
    """
    from xverse_v.serving.demo.options import check_extra, read_passwords

    check_extra()
    passwords = read_passwords(auth_file) if auth_file is not None else {}
    run(load_assistant(model, device, dtype), Path(model).name, host, port, passwords)


def run(assistant: Assistant, name: str, host: str, port: int, passwords: dict[str, str]) -> None:
    """Serve a loaded model until Ctrl-C."""
    from xverse_v.serving.demo.app import serve
    from xverse_v.serving.demo.options import DemoOptions

    def ready(address: str) -> None:
        note(say(f"The demo is at {address} (Ctrl-C ends it).", f"演示地址：{address}（Ctrl-C 结束）。"))

    with tempfile.TemporaryDirectory(prefix="xverse-v-examples-") as folder:
        options = DemoOptions(
            host=host,
            port=port,
            language=chosen_language(),
            passwords=passwords,
            examples=examples(Path(folder)),
            model_name=name,
        )
        serve(assistant, options, ready)


def chosen_language() -> Language | None:
    """The language that was asked for (--lang or XVERSE_V_LANG); None follows the browser."""
    return user_language() if os.environ.get(LANGUAGE_VARIABLE) else None


def examples(folder: Path) -> list[Example]:
    """The built-in example images, drawn into a folder, with questions about them."""
    from xverse_v.nano.examples import write_examples
    from xverse_v.serving.demo.options import Example

    write_examples(folder)
    asked: dict[str, dict[Language, list[str]]] = {}
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asked.setdefault(row["image"], {"en": [], "zh": []})[row["language"]].append(row["question"])
    both = [(image, questions) for image, questions in asked.items() if questions["en"] and questions["zh"]]
    chosen = both[:: max(1, -(-len(both) // MOST_EXAMPLES))]  # spread over the list, which goes from few shapes to many
    return [
        Example(folder / image, {"en": _turn(questions["en"], place), "zh": _turn(questions["zh"], place)})
        for place, (image, questions) in enumerate(chosen)
    ]


def _turn(questions: list[str], place: int) -> str:
    """Another kind of question for each image: they come in the same order for all."""
    return questions[place % len(questions)]


# The release's line ------------------------------------------------------------------------------------------------

release_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@release_app.command(context_settings={"help_option_names": ["-h", "--help"]})
def release_demo(
    cfg_path: Annotated[Path, typer.Option("--cfg-path", metavar="YAML", help="The release's evaluation YAML.")],
    gpu_id: Annotated[int, typer.Option("--gpu-id", min=0, metavar="N", help="Which GPU; without any, the CPU.")] = 0,
    server_port: Annotated[int, typer.Option("--server_port", "--server-port", min=0, max=65535)] = RELEASE_PORT,
    out: PartsFolder = DEFAULT_FOLDER,
) -> None:
    """The release's demo, by its own line; the page is that of `xverse-v demo`.

    The three parts that the YAML names are converted into one folder the first time, and that folder is used from then
    on.
    """
    from xverse_v.serving.demo.options import check_extra

    check_extra()
    folder = folder_of_parts(cfg_path, out)
    run(load_assistant(str(folder), _device(gpu_id), None), folder.name, "127.0.0.1", server_port, {})


def release_main(arguments: Sequence[str] | None = None) -> int:
    """Run the release's line and return its exit code, with errors as every verb shows them."""
    from . import INTERRUPTED, UsageError

    try:
        code = release_app(arguments, prog_name="demo.py", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except XverseError as problem:
        print_error(problem, as_json=False)
        return problem.exit_code
    except UsageError as problem:
        print_error(error("E801", message=problem.format_message(), command="python demo.py"), as_json=False)
        return 2
    return code if isinstance(code, int) else 0


def _device(gpu_id: int) -> str | None:
    """`cuda:N`, which is checked later; on a machine without any GPU the CPU, and it is said."""
    with passing_note("looking for a GPU ..."):
        import torch

        any_gpu = torch.cuda.is_available()
    if any_gpu:
        return f"cuda:{gpu_id}"
    note(
        say(
            f"--gpu-id {gpu_id}: there is no GPU here, so the CPU computes.",
            f"--gpu-id {gpu_id}：本机没有 GPU，改用 CPU 计算。",
        )
    )
    return None
