"""Chinese translations of progress lines and errors, which the program itself has in English only."""

from __future__ import annotations

import re

LINES: tuple[tuple[str, str], ...] = (
    # progress
    (r"sample pictures are drawn", "正在绘制示例图片"),
    (r"weights: (.*)", "权重：{0}"),
    (r"features: (\d+) pictures", "特征：{0} 张图片"),
    (r"features: (\d+) new pictures", "特征：{0} 张新图片"),
    (
        r"features: (\d+) new pictures; (\d+) that the model holds already are left out",
        "特征：{0} 张新图片；跳过模型已有的 {1} 张",
    ),
    (r"bank of (.*) patches", "特征库含 {0} 个图块"),
    (r"Gaussians of (.*) channels", "{0} 个通道的高斯分布"),
    (r"gallery of (\d+) pictures(.*)", "图库含 {0} 张图片{1}"),
    (
        r"calibration: (\d+) good pictures scored as if not seen; pixel threshold ([\d.]+), (.*)",
        "校准：{0} 张良品按未见过的图片评分；像素阈值 {1}，{2}",
    ),
    (r"threshold ([\d.]+)", "阈值 {0}"),
    (r"threshold ([\d.]+) for a false alarm rate of (\S+)", "阈值 {0}，对应误报率 {1}"),
    (
        r"(\d+) good pictures can promise a false alarm rate of (\S+), not (\S+); "
        r"the threshold is an estimate from the tail of their scores",
        "{0} 张良品最多只能保证 {1} 的误报率，达不到 {2}；阈值由分数分布的尾部估计",
    ),
    (r"least like the others: (.*)", "与其他图片最不相似：{0}"),
    (r"(\d+) of (\d+) new pictures looked at were above the threshold so far", "{1} 张新图片中有 {0} 张原先超过阈值"),
    (r"model: (.*)", "模型：{0}"),
    (r"model", "模型"),
    (r"scored: (\d+) of (\d+)", "已检查：{0} / {1}"),
    (r"export: compared with the model", "导出：已与模型比对"),
    (r"results: table and heat maps", "结果：表格与热力图"),
    (r"report: figures", "报告：指标"),
    (r"report: page and curves", "报告：页面与曲线"),
    # a model in a line
    (r"(\S+) on (\S+) \((.*)\)", "{0}，骨干网络 {1}（{2}）"),
    (r"(\d+) pictures", "{0} 张图片"),
    (r"resize (\d+) crop (.*)", "缩放至 {0} 后裁剪为 {1}"),
    (r"stretched to (.*)", "拉伸为 {0}"),
    (r"padded to (.*)", "填充为 {0}"),
    # errors
    (r"cannot read picture (.*?): (.*)", "无法读取图片 {0}：{1}"),
    (r"the file is empty", "文件为空"),
    (r"the file is cut short; copy it again", "文件不完整，请重新复制"),
    (r"the file is cut short or damaged; copy it again", "文件不完整或已损坏，请重新复制"),
    (r"its header is damaged or cut short", "文件头损坏或不完整"),
    (r"its data are damaged; copy it again", "数据已损坏，请重新复制"),
    (r"no kind of picture that is known here", "不是可识别的图片格式"),
    (r"not a picture that OpenCV (\S+) can decode", "OpenCV {0} 无法解码"),
    (
        r"its 16-bit values end at (\d+), as 12-bit data do, and would be read as black: .*",
        "16 位像素值最大只有 {0}（即 12 位数据），会被当作全黑：请保存为 8 位",
    ),
    (r"fitting needs at least two good pictures, got (\d+)", "训练至少需要两张良品图片，现有 {0} 张"),
    (r"none of the (\d+) pictures is new to the model: there is nothing to add", "这 {0} 张图片模型都已学过"),
    (r"all rows of the memory bank come from one picture: .*", "特征全部来自同一张图片：请提供更多图片"),
    (r"no folder (.*): evaluation needs .*", "没有测试图片：{0} 不存在"),
    (r"(\d+) of (\d+) labelled pictures are defective: .*", "{1} 张已标注图片中 {0} 张有缺陷：两类图片都需要"),
    (
        r"no threshold has a precision of (\S+) on these pictures: the best is (\S+)",
        "这些图片上没有阈值能达到 {0} 的精确率，最高为 {1}",
    ),
    (
        r"picture (.*?) is (\d+) x (\d+) pixels: no side may be over (\d+) times the other; .*",
        "图片 {0} 有 {1} x {2} 像素：一边不得超过另一边的 {3} 倍",
    ),
    (r"cannot write (.*): (.*)", "无法写入 {0}：{1}"),
)
"""Patterns of whole lines and their translations; the text of each group is translated as well."""


def in_chinese(text: str) -> str:
    """Translate lines of the program to Chinese; a line that is not in LINES, such as a rare error, is not changed."""
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    for pattern, chinese in LINES:
        found = re.fullmatch(pattern, line)
        if found:
            return chinese.format(*map(_line, found.groups()))
    return line
