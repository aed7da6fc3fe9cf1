"""`xverse-v chat`: many turns in the terminal. Reads lines, calls a conversation, prints; inference/ does the work."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from xverse_v.errors import XverseError, error

from .ask import follow, receipt_lines, remark
from .backends import Backend, Context, Gguf, load_with
from .common import (
    Detail,
    Device,
    Dtype,
    MaxNewTokens,
    MaxTiles,
    Model,
    Quantise,
    RepetitionPenalty,
    Seed,
    Stop,
    System,
    Temperature,
    TopK,
    TopP,
    given_options,
    note,
    print_error,
    say,
    show,
)

if TYPE_CHECKING:
    from xverse_v.inference.assistant import Assistant
    from xverse_v.inference.conversation import Conversation, TurnStream
    from xverse_v.inference.prompt import PreparedImage
    from xverse_v.media import ImageSource

PROMPT = "> "


def chat(
    image: Annotated[
        str | None, typer.Argument(metavar="[IMAGE]", help="An image to talk about; /image adds others later.")
    ] = None,
    model: Model = "nano",
    system: System = None,
    max_tiles: MaxTiles = None,
    detail: Detail = "auto",
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    stop: Stop = None,
    device: Device = None,
    dtype: Dtype = None,
    quantise: Quantise = None,
    backend: Backend = "torch",
    gguf: Gguf = None,
    context: Context = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Tell after each answer what it took, on stderr.")] = False,
) -> None:
    """Talk about images, turn after turn. Ctrl-C stops an answer and keeps the chat; /help lists the commands.

    Lines may also come from a pipe: each is a question or a command, the answers go to stdout, and the exit code is 1
    if a line failed.

    \b
    Examples
      xverse-v chat cat.jpg
      xverse-v chat --model ./xverse-v-13b --system "Answer in one sentence."
      printf 'What is it?\\nWhere is it?\\n' | xverse-v chat cat.jpg
    """
    options = given_options(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
    )
    assistant = load_with(model, device, dtype, quantise, backend, gguf, context)
    conversation = assistant.chat(system=system, max_tiles=max_tiles, detail=detail, **options)
    limit = 1 if detail == "low" else max_tiles
    session = Session(assistant, conversation, limit, receipt=receipt, interactive=sys.stdin.isatty())
    if image is not None:
        session.attach(image)
    if session.interactive:
        note(say("Ask something. /help lists the commands, /quit leaves.", "请提问。/help 列出命令，/quit 退出。"))
    session.run(_lines(session.interactive))
    if session.failures and not session.interactive:
        raise typer.Exit(1)


def _lines(interactive: bool) -> Iterator[str]:
    """What the user says, line by line, until the end of input. A Ctrl-C at the prompt only drops the line."""
    if not interactive:
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    with suppress(ImportError):  # not part of every Python; with it, input() edits lines and remembers them
        import readline  # noqa: F401
    while True:
        try:
            yield input(PROMPT)
        except KeyboardInterrupt:
            note(say("\n(/quit or Ctrl-D leaves)", "\n（/quit 或 Ctrl-D 退出）"))
        except EOFError:
            note()
            return


class Session:
    """One chat at the terminal: the conversation, the images that wait for the next question, and the commands."""

    def __init__(
        self,
        assistant: Assistant,
        conversation: Conversation,
        max_tiles: int | None = None,
        *,
        receipt: bool = False,
        interactive: bool = False,
    ) -> None:
        self.assistant = assistant
        self.conversation = conversation
        self.max_tiles = max_tiles
        self.receipt = receipt
        self.interactive = interactive
        self.waiting: list[PreparedImage] = []
        self.failures = 0
        self.ended = False
        self.commands: dict[str, tuple[Callable[[str], None], str, str]] = {
            "/image": (self.attach, "PATH  add an image to the next question", "PATH  为下一个问题添加图像"),
            "/tiles": (self.tiles, "how the images of this chat are cut", "查看本次对话中图像的切块"),
            "/undo": (self.undo, "take the last question and its answer back", "撤回上一个问题及其回答"),
            "/retry": (self.retry, "answer the last question again", "重新回答上一个问题"),
            "/reset": (self.reset, "forget everything, images too", "清空对话和图像"),
            "/save": (self.save, "PATH  write the chat as JSON", "PATH  把对话保存为 JSON"),
            "/system": (self.system, "TEXT  set the system text; alone: show it", "TEXT  设置系统提示；不带文本则显示"),
            "/help": (
                self.help,
                "this list; //text asks a text that begins with /",
                "显示本列表；//文本 可提问以 / 开头的内容",
            ),
            "/quit": (self.quit, "leave", "退出"),
        }

    def run(self, lines: Iterator[str]) -> None:
        """Take lines until they end or one says /quit. A line that fails is said and counted; the chat goes on."""
        for line in lines:
            text = line.strip()
            if not text:
                continue
            try:
                self.take(text)
            except XverseError as problem:
                self.failures += 1
                print_error(problem, as_json=False)
            except KeyboardInterrupt:  # a second one, while the first was waiting for the model
                note(say("(stopped)", "（已停止）"))
            if self.ended:
                return

    def take(self, text: str) -> None:
        """One line: a command, or something to say."""
        if not text.startswith("/") or text.startswith("//"):
            self.ask(text[1:] if text.startswith("//") else text)
            return
        name, _, rest = text.partition(" ")
        if name in self.commands:
            self.commands[name][0](rest.strip())
            return
        self.failures += 1
        near = difflib.get_close_matches(name, self.commands, n=1)
        hint = near[0] if near else "/help"
        note(say(f"There is no command {name}; try {hint}", f"没有命令 {name}；试试 {hint}"))

    def ask(self, text: str) -> None:
        # The images count as said only once the turn exists: after an error they wait for the next question.
        images = cast("tuple[ImageSource, ...]", tuple(self.waiting))  # a prepared image passes for its source
        with self.conversation.stream(text, images) as stream:
            self.answer(stream)
        self.waiting.clear()

    def answer(self, stream: TurnStream) -> None:
        answer = follow(stream, live=self.interactive)
        show("" if self.interactive else answer.text)
        remark(answer)
        if self.receipt:
            note(receipt_lines(answer.receipt))

    def attach(self, path: str) -> None:
        """Open the image now, so that one that cannot be read is known before a question is typed."""
        prepared = self.assistant.prompts.prepare(_unquoted(path), self.max_tiles)
        self.waiting.append(prepared)
        note(self._image_line(len(self._images()), prepared))

    def tiles(self, rest: str) -> None:
        images = self._images()
        for place, image in enumerate(images, start=1):
            show(self._image_line(place, image))
        show(
            say(
                "Every view in pixels: xverse-v tiles IMAGE --png sheet.png",
                "查看每个视图的像素：xverse-v tiles IMAGE --png sheet.png",
            )
            if images
            else say("No image yet; /image PATH adds one.", "还没有图像；/image PATH 可添加。")
        )

    def _images(self) -> list[PreparedImage]:
        return [image for turn in self.conversation.turns for image in turn.images] + self.waiting

    def _image_line(self, place: int, image: PreparedImage) -> str:
        facts = image.receipt(self.assistant.prompts.processor.patches_per_view)
        return say(
            f"image {place}: {facts.width}x{facts.height}, grid {facts.rows}x{facts.columns}, {facts.views} views, "
            f"{facts.tokens} tokens",
            f"图像 {place}：{facts.width}x{facts.height}，网格 {facts.rows}x{facts.columns}，{facts.views} 个视图，"
            f"{facts.tokens} 个词元",
        )

    def undo(self, rest: str) -> None:
        turn = self.conversation.undo()
        self.waiting[:0] = turn.images  # asking something else about the same image is what undo is mostly for
        note(say(f"Taken back: {turn.text}", f"已撤回：{turn.text}"))
        if turn.images:
            note(say("Its images wait for the next question.", "其中的图像将用于下一个问题。"))

    def retry(self, rest: str) -> None:
        with self.conversation.stream_retry() as stream:
            self.answer(stream)

    def reset(self, rest: str) -> None:
        self.conversation.reset()
        self.waiting.clear()
        note(say("Everything is forgotten.", "对话已清空。"))

    def save(self, path: str) -> None:
        target = Path(_unquoted(path) or "chat.json")
        if target.exists():
            raise error("E807", path=target, suggestion=_free_name(target))
        try:
            self.conversation.save(target)
        except OSError as reason:
            raise error("E808", path=target, reason=reason.strerror or str(reason)) from reason
        note(say(f"Saved in {target}", f"已保存到 {target}"))

    def system(self, text: str) -> None:
        if text:
            self.conversation.system = text
        note(say(f"System text: {self.conversation.system}", f"系统提示：{self.conversation.system}"))

    def help(self, rest: str) -> None:
        for name, (_, english, chinese) in self.commands.items():
            show(f"  {name:8} {say(english, chinese)}")

    def quit(self, rest: str) -> None:
        self.ended = True


def _unquoted(path: str) -> str:
    """A path as people paste it: in quotes, or with the spaces a file manager escaped."""
    for quote in "'\"":
        if len(path) > 1 and path.startswith(quote) and path.endswith(quote):
            return path[1:-1]
    return path if Path(path).exists() else path.replace("\\ ", " ")


def _free_name(path: Path) -> Path:
    return next(
        name
        for number in range(2, 10_000)
        if not (name := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists()
    )
