"""Every word on the page, in English and Chinese.

Words only: numbers are filled in by whoever shows them. Texts of the inspector (views, tiles, notes) are the
inspector's.
"""

from __future__ import annotations

from typing import Any

from xverse_v.errors import Language

_TEXTS: dict[str, tuple[str, str]] = {
    # Page
    "subtitle": ("Ask images questions, and see what the answer rests on.", "向图像提问，并查看答案的依据。"),
    "dark": ("Light / dark", "浅色 / 深色"),
    "language": ("Language", "语言"),
    "chat": ("Conversation", "对话"),
    "hello": (
        "Add an image (upload, paste, drop or webcam) and ask about it, or start from an example.",
        "添加图像（上传、粘贴、拖放或摄像头）并提问，或从示例开始。",
    ),
    "box": ("Ask about your images", "就图像提问"),
    "retry": ("Retry", "重试"),
    "undo": ("Undo", "撤销"),
    "clear": ("Clear", "清空"),
    "stop": ("Stop", "停止"),
    "webcam": ("Webcam", "摄像头"),
    "camera": ("Take a photo; it joins your next question.", "拍一张照片，它会加入下一个问题。"),
    "tab_tiles": ("Tiles", "图块"),
    "tab_evidence": ("Evidence", "证据"),
    "tab_confidence": ("Confidence", "置信度"),
    "tab_receipt": ("Receipt", "凭据"),
    "tab_settings": ("Settings", "设置"),
    # Status line
    "write_question": ("Write a question for the model.", "请写下要问模型的问题。"),
    "reading": ("Reading the question and its images …", "正在读取问题和图像……"),
    "waiting": ("Waiting for the model: {ahead} before you …", "正在等待模型：前面还有 {ahead} 个请求……"),
    "answering": ("Answering …", "正在回答……"),
    "measuring": ("Scoring the answer again: {done} of {total} …", "正在重新评分：{done} / {total}……"),
    "stopped_waiting": (
        "Stopped before the model began; your question is back in the box.",
        "在模型开始之前已停止；问题已放回输入框。",
    ),
    "stopped_measuring": ("Stopped; nothing was measured.", "已停止；没有测量结果。"),
    "end_length": (
        "(The answer ended at its limit of {tokens:,} tokens.)",
        "（答案在 {tokens:,} 个 token 的上限处结束。）",
    ),
    "end_cancelled": ("(Stopped.)", "（已停止。）"),
    "empty": ("(The model ended its answer at once: it is empty.)", "（模型立即结束了回答：答案为空。）"),
    "done": (
        "{tokens:,} tokens in {seconds:.1f} s · prompt {prompt:,} tokens, {cached:,} from the cache",
        "{tokens:,} 个 token，用时 {seconds:.1f} 秒 · 提示 {prompt:,} 个 token，其中 {cached:,} 个来自缓存",
    ),
    "same": (
        "The same answer: without sampling the likeliest token is always taken. Settings can turn sampling on.",
        "答案相同：不采样时总是取最可能的 token。可在设置中开启采样。",
    ),
    # Tiles
    "tiles_empty": (
        "Add an image, and this shows every view the model gets of it: the whole image first, then its tiles.",
        "添加图像后，这里会显示模型得到的每个视图：先是整张图像，然后是各图块。",
    ),
    "image_number": ("Image {number} of {count}", "第 {number} 张图像，共 {count} 张"),
    "orientation_release": (
        "Grid: release. Rows come from the width and columns from the height, as the released code does it.",
        "网格：release。行数取自宽度，列数取自高度，与原版代码一致。",
    ),
    "orientation_upright": (
        "Grid: upright. Rows come from the height and columns from the width.",
        "网格：upright。行数取自高度，列数取自宽度。",
    ),
    "other_grid": (
        "The other way ({other}) would cut it {rows} x {columns}, with an aspect error of {aspect:.3g}.",
        "另一种方式（{other}）会切成 {rows} x {columns}，长宽比误差为 {aspect:.3g}。",
    ),
    "same_grid": (
        "Both ways of laying the grid, release and upright, are the same for it.",
        "对它而言，release 与 upright 两种网格相同。",
    ),
    "views_title": ("Views, in the order of the prompt", "各视图，按提示中的次序"),
    # Evidence
    "evidence_empty": (
        "Ask about an image first; then the answer's evidence can be measured.",
        "请先就图像提问，然后可以测量答案的证据。",
    ),
    "evidence_ready": (
        "Press Measure. Each part of the image is blanked in turn, and this answer is scored again.",
        "请按“测量”。图像的每一部分会被依次遮挡，并对该答案重新评分。",
    ),
    "measure": ("Measure", "测量"),
    "which_image": ("Image", "图像"),
    "blank": ("What is blanked", "遮挡方式"),
    "blank_region": ("A place, in every view", "一个位置（所有视图）"),
    "blank_view": ("One view alone", "仅一个视图"),
    "evidence_answer": ("The answer “{answer}”", "答案：“{answer}”"),
    "evidence_strongest": (
        "Without {place} it is {factor} times less likely.",
        "遮挡{place}后，其可能性降为 {factor} 分之一。",
    ),
    "evidence_weak": ("No single part matters much to it.", "没有哪一部分单独对它有明显影响。"),
    "evidence_blanked": ("Without the whole image: {factor}.", "遮挡整张图像：{factor}。"),
    "times_less": ("{factor} times less likely", "可能性降为 {factor} 分之一"),
    "times_more": ("{factor} times more likely", "可能性升为 {factor} 倍"),
    "unchanged": ("unchanged", "不变"),
    "legend_low": ("no change", "无变化"),
    "legend_high": ("÷{factor}", "÷{factor}"),
    "legend_more": ("more likely", "更可能"),
    "part": ("part {row},{column}", "第 {row} 行第 {column} 列"),
    "evidence_is": (
        "What it shows: how much the model's own probability of this answer falls when that part is replaced by a "
        "plain colour. ÷20 means a twentieth.",
        "它显示的是：把该部分换成纯色后，模型自己给这个答案的概率下降多少。÷20 表示降为二十分之一。",
    ),
    "evidence_not": (
        "What it does not show: where the model looked, why it answered, or whether it is right. A blanked image is "
        "unlike any the model knows, and two parts that say the same thing hide each other.",
        "它不显示：模型看了哪里、为什么这样回答、答案是否正确。被遮挡的图像与模型见过的都不同；内容相同的两处会互相掩盖。",
    ),
    "evidence_region": (
        "Each part was hidden in its tile and in its place of the global view.",
        "每一部分在其图块和全局视图中的对应位置都被遮挡。",
    ),
    "evidence_cells": (
        "This image has a global view alone; it was parted into {rows} x {columns} cells.",
        "这张图像只有全局视图；它被分成 {rows} x {columns} 格。",
    ),
    "evidence_view": (
        "Each view was hidden alone; the other views still show its place. The global view: {factor}.",
        "每个视图单独遮挡，其他视图仍显示该位置。全局视图：{factor}。",
    ),
    # Confidence
    "confidence_empty": ("Ask something first.", "请先提问。"),
    "typical": ("A typical token", "典型 token"),
    "typical_note": ("geometric mean", "几何平均"),
    "whole": ("The whole answer", "整个答案"),
    "whole_note": ("product of {tokens:,} tokens", "{tokens:,} 个 token 之积"),
    "weakest": ("Least certain", "最不确定"),
    "end_token": ("end", "结束"),
    "confidence_tokens": (
        "Token by token; point at one for what else could stand there",
        "逐个 token；指向某个可看其他可能",
    ),
    "confidence_is": (
        "These are the model's own probabilities of its tokens, before sampling settings. They say how sure it is of "
        "its words, not how often such answers are right: a model can be sure and wrong.",
        "这些是模型在应用采样设置之前给各 token 的概率。它们表示模型对用词有多确定，"
        "而不是这类答案有多常正确：模型可能既确定又错误。",
    ),
    # Receipt
    "receipt_empty": ("No answer yet.", "还没有答案。"),
    "receipt": ("Receipt, ready to paste into a bug report", "凭据，可直接粘贴到错误报告中"),
    "include": ("Include question, answer, system text and image digests", "包含问题、答案、系统文本和图像摘要值"),
    "include_note": (
        "Left out unless you tick it. Images themselves are never included.",
        "不勾选则不包含。图像本身从不包含。",
    ),
    # Settings
    "system": ("System text", "系统文本"),
    "system_note": (
        "The release's demo uses this Chinese sentence. Empty is the form its benchmarks use.",
        "原版演示使用这句中文。留空即其基准测试所用的形式。",
    ),
    "do_sample": ("Sample (otherwise always the likeliest token)", "采样（否则总取最可能的 token）"),
    "temperature": ("Temperature", "温度"),
    "top_p": ("Top-p", "Top-p"),
    "top_k": ("Top-k (0 keeps all)", "Top-k（0 表示不限）"),
    "repetition_penalty": ("Repetition penalty", "重复惩罚"),
    "max_new_tokens": ("Most tokens of an answer", "答案最多 token 数"),
    "seed": ("Seed", "随机种子"),
    "max_tiles": ("Most tiles of an image (1: the global view alone)", "每张图像最多图块数（1：只用全局视图）"),
    "reset": ("Back to the model's own settings", "恢复模型自身的设置"),
}


def text(name: str, language: Language, **facts: Any) -> str:
    """One text, filled in."""
    english, chinese = _TEXTS[name]
    return (chinese if language == "zh" else english).format(**facts)
