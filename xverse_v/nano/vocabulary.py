"""The tokenizer of the built-in model: byte pairs with byte fallback, in the release's structure.

What crosses: `build_tokenizer()` -> `tokenizers.Tokenizer`, always the same one. Ids 0 to 3 are the release's special
tokens, then 256 byte tokens, then characters and words; `<|image|>` is added last. This file refuses to know how
questions are asked: it takes a list of words and makes sure that each is one token.
"""

# ruff: noqa: E501 (tables of words: a Chinese character counts double)
from __future__ import annotations

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

UNKNOWN, PAD, START, END = "<unk>", "<pad>", "<|startoftext|>", "<|endoftext|>"
PAD_ID, START_ID, END_ID = 1, 2, 3
IMAGE = "<|image|>"


def _list(words: str) -> list[str]:
    return words.split()


# Words that answers and questions of the world are made of: one token each, with and without a leading space.
ENGLISH = _list("""
Human Assistant what What which Which where Where how How is
Is are Are there There can Can you You many colour color
colours colors shape shapes object objects thing things one ones
image picture photo position place located the a an of
in at on see tell Tell me Count count describe Describe
this This it any anything does Does have contain show top bottom
left right centre center middle corner side nothing yes no
and red orange yellow green blue purple pink black circle
square triangle star heart circles squares triangles stars hearts Who
who am I nano small model answer about with not
hello Hello Hi hi thank thanks Thanks welcome do Do did
made your Your name my My can't by simple questions images Based
respond to question single word or short phrase simply Answer Question please Please good Good bye goodbye Goodbye
morning help Yes No coloured Bye English Chinese speak real people Ask ask give Give drawn
size large small big bigger larger same digit digits number written handwritten here Read read it
bar bars line lines slice slices chart charts value high higher highest tall taller tallest low lowest largest smallest
shortest last ends end percentage share kind tag tags text say says first second both more images show caption Write
cannot above have used tiny
""")
CHINESE = _list("""
红色 橙色 黄色 绿色 蓝色 紫色 粉色 粉红色 黑色 圆形 正方形 三角形 星星 心形 方形 方块 五角星 星形 爱心 圆圈 圆
左上角 上方 右上角 左边 中间 右边 左下角 下方 右下角 左上方 右上方 左下方 右下方 上边 上面 下边 下面 左侧 右侧 左面 右面 中央 中心 正中间
图形 形状 颜色 物体 东西 位置 图里 图中 图片 图像 这张 图 里 中 有 没有 有没有 吗 呢 几个 多少个 多少 一共 总共 数一数 是 不是 是不是 什么 什么样 的 在 哪里 哪儿
哪个 什么位置 描述 一下 请 请问 看到 你 我 您 能 可以 你好 您好 谢谢 不客气 再见 早上好 你是谁 你叫 名字 我是 一个 小 模型 内置 回答 关于 简单 问题 吧 了 和 与 个 这 那 它 也
谁 做 会 说 中文 英文 用 个数 简单 会 帮 帮助 告诉 哪 什么也没有 问 的问题 图片 这个 里面 位于
标签 数字 文字 手写 手写的 写的 写着 写在 读出 柱子 柱状图 折线 折线图 扇形 饼图 图表 百分之几 占 终点 最后 最高 最低 最大 最小 最矮 更大 更多 高
大 小 还是 多大 多高 一样 不一样 相同 同一种 两张图 第一 第二 张图 都 哪张图 哪根 哪条 哪种 说明 写一段 看不到 值 比 几 上 根 条 最 更 也是
""")
GENERAL = _list("""
be was were been has had he she they we his her their our
its if then than but for from as so up down out over under
near next first second third last new old big large small
little long time day year man woman child dog cat car house
tree water food table book world school work life way know think
want need look find use make take get go come like love
will would could should may must also only very more
most some all each other because when while after before between
sky sun moon road street city country white brown gray grey
plate person bird horse boat train bus bike ball game food
number text letter line size same different true false
""")
GENERAL_CHINESE = _list("""
我们 他们 她 他 不 人 大 小 上 下 左 右 前 后 天 地 日 月 水 火 山 木 花 树 狗 猫 车 房子 书 学校 工作 生活 时间 今天 明天 现在 知道 觉得 想 要 来 去 好 多 少 很 都
就 还 因为 所以 但是 如果 时候 中国 世界 朋友 老师 学生 孩子 白色 灰色 棕色 数字 文字 长 短 高 低 新 旧 一 二 三 四 五 六 七 八 九 十 两 只 张 条 用 对 为 到 从 把 被 让 给
""")
PUNCTUATION = "，。？！、：；“”（）《》—…·"


def _words() -> list[str]:
    words: list[str] = []
    for word in ENGLISH:
        words += ["▁" + word, word]
    words += ["▁" + word for word in GENERAL] + CHINESE + GENERAL_CHINESE
    return list(dict.fromkeys(words))


def build_tokenizer() -> Tokenizer:
    """Trains the byte pairs on the word list until every word is one token; same tokenizer on every call."""
    alphabet = sorted({chr(code) for code in range(33, 127)} | set(PUNCTUATION) | {"\n", "▁"})
    special = [UNKNOWN, PAD, START, END]
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        min_frequency=1,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learner = Tokenizer(models.BPE(unk_token=UNKNOWN))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Words of the world count more, so that their merges come before any that could run across two Chinese words.
    heavy = _words()[: 2 * len(ENGLISH)] + CHINESE
    learner.train_from_iterator([" ".join(heavy)] * 5 + [" ".join(_words())], trainer)
    vocabulary = learner.get_vocab()
    merges = [(left, right) for left, right in _merges(learner)]
    model = models.BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    # The chat template writes a user's own special-token text with a noncharacter inside; here it becomes text again.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("\ufdd01", ""), normalizers.Replace("\ufdd00", "\ufdd0")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
            pre_tokenizers.Split(Regex("\n"), "isolated"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
    return tokenizer


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return merges
