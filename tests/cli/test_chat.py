"""`chat` with piped lines on the tiny model: every command, and what a failing line costs."""

import json

import pytest


@pytest.fixture(scope="module", autouse=True)
def loaded_once(tiny_folder):
    from xverse_v.inference.loading import load

    patch = pytest.MonkeyPatch()
    assistant = load(tiny_folder, device="cpu")
    patch.setattr("xverse_v.inference.loading.load", lambda *arguments, **options: assistant)
    yield assistant
    patch.undo()


@pytest.fixture
def chat(run, tmp_path, monkeypatch):
    """`chat("a line", "another", flags=[...])`."""
    monkeypatch.chdir(tmp_path)

    def call(*lines, flags=()):
        return run("chat", *flags, "--max-new-tokens", "4", stdin="\n".join(lines).encode())

    return call


def saved(tmp_path, name="chat.json"):
    return json.loads((tmp_path / name).read_text(encoding="utf-8"))


def test_answers_go_to_stdout_one_a_line(chat, image, loaded_once):
    shown = chat("What is it?", "", "And now?", flags=[image])
    conversation = loaded_once.chat(max_new_tokens=4)
    expected = [conversation.say("What is it?", (str(image),)).text, conversation.say("And now?").text]
    assert shown.code == 0
    assert shown.out == "".join(text + "\n" for text in expected)


def test_an_image_is_opened_when_it_is_named(chat, image):
    shown = chat(f"/image {image}", f"/image '{image}'", "/tiles", "/image missing.png", "Both?", "/tiles", "/save")
    assert shown.out.count("image 2: 300x200, grid") == 2
    assert shown.err.count("image 1: 300x200, grid") == 1
    assert "E500" in shown.err
    assert shown.code == 1, "a line failed, and there is no one at the terminal to see it"


def test_images_belong_to_one_question(chat, image, tmp_path):
    chat(f"/image {image}", "One?", "Two?", "/save")
    assert [len(turn["images"]) for turn in saved(tmp_path)["turns"]] == [1, 0]


def test_undo_gives_the_images_back(chat, image, tmp_path):
    shown = chat("One?", "/undo", "Two?", "/save", flags=[image])
    turns = saved(tmp_path)["turns"]
    assert [(turn["text"], len(turn["images"])) for turn in turns] == [("Two?", 1)]
    assert "Taken back: One?" in shown.err


def test_retry_answers_the_last_question_again(chat, tmp_path):
    shown = chat("One?", "/retry", "/save")
    assert len(saved(tmp_path)["turns"]) == 1
    first, second = shown.out.splitlines()
    assert first == second


def test_retry_draws_anew_when_sampling(chat):
    first, second = chat("One?", "/retry", flags=["--temperature", "5"]).out.splitlines()
    assert first != second


@pytest.mark.parametrize("command", ["/undo", "/retry"])
def test_there_is_nothing_to_undo_at_first(chat, command):
    shown = chat(command)
    assert "E110" in shown.err
    assert shown.code == 1


def test_reset_forgets_everything(chat, image, tmp_path):
    chat("One?", "/reset", "/tiles", "Two?", "/save", flags=[image])
    assert [(turn["text"], len(turn["images"])) for turn in saved(tmp_path)["turns"]] == [("Two?", 0)]


def test_the_system_text_can_change(chat, tmp_path):
    shown = chat("/system", "/system Be brief.", "One?", "/save", flags=["--system", "Be long."])
    assert "Be long." in shown.err
    assert saved(tmp_path)["system"] == "Be brief."


def test_save_never_overwrites(chat, tmp_path):
    shown = chat("One?", "/save my chat.json", "/save my chat.json", "/save nowhere/x.json")
    assert saved(tmp_path, "my chat.json")["turns"][0]["text"] == "One?"
    assert "E807" in shown.err
    assert "my chat-2.json" in shown.err
    assert "E808" in shown.err


def test_help_and_unknown_commands(chat):
    shown = chat("/help", "/imagine")
    assert all(name in shown.out for name in ("/image", "/tiles", "/undo", "/retry", "/reset", "/save", "/quit"))
    assert "try /image" in shown.err
    assert shown.code == 1


def test_two_slashes_ask_a_text_with_one(chat, tmp_path):
    chat("//help", "/save")
    assert saved(tmp_path)["turns"][0]["text"] == "/help"


def test_quit_ends_it(chat):
    assert len(chat("One?", "/quit", "Two?").out.splitlines()) == 1


def test_a_question_that_fails_keeps_the_images_and_the_chat(chat, image, tmp_path):
    too_long = "word " * 9000
    shown = chat("One?", too_long, "Two?", "/save", flags=[])
    assert "E120" in shown.err
    assert [turn["text"] for turn in saved(tmp_path)["turns"]] == ["One?", "Two?"]
    shown = chat(too_long, "/tiles", flags=[image])
    assert "image 1: 300x200" in shown.out


def test_messages_are_chinese_for_chinese_users(chat, monkeypatch):
    monkeypatch.setenv("XVERSE_V_LANG", "zh")
    assert "没有命令 /imagine" in chat("/imagine").err
