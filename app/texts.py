"""All texts of the page, in English and Chinese."""

from __future__ import annotations

from .lines import in_chinese

LANGUAGES = {"en": "English", "zh": "中文"}
TEXTS: dict[str, tuple[str, str]] = {
    "title": ("PaddlePatch", "PaddlePatch"),
    "subtitle": (
        "Learns what good products look like, and shows where others differ.",
        "从良品学习，指出产品的异常之处。",
    ),
    "language": ("Language", "语言"),
    # the model
    "model_step": ("Model", "模型"),
    "source": ("Learn from", "学习来源"),
    "own": ("My pictures", "我的图片"),
    "sample": ("Sample data", "示例数据"),
    "category": ("Folder on this server", "服务器上的文件夹"),
    "file": ("Trained model", "已有模型"),
    "own_drop": ("Drop pictures of good products, at least {least}", "拖入良品图片，至少 {least} 张"),
    "upload": ("Upload", "上传"),
    "upload_limit": ("{most} MB per file", "每个文件不超过 {most} MB"),
    "own_count": ("{count} good pictures", "{count} 张良品图片"),
    "own_short": ("{missing} more are needed", "还需要 {missing} 张"),
    "own_clear": ("Remove them", "全部移除"),
    "sample_pick": ("Product", "产品"),
    "sample_told": (
        "Drawn pictures: {train} good ones to learn from, and others with and without flaws to test on.",
        "程序绘制的图片：{train} 张良品用于学习，另有带缺陷和不带缺陷的图片用于测试。",
    ),
    "washer": ("washer", "垫圈"),
    "fabric": ("fabric", "织物"),
    "connector": ("connector", "连接器"),
    "tablet": ("tablet", "药片"),
    "wood": ("wood", "木材"),
    "category_pick": ("Category", "类别"),
    "file_pick": ("Model", "模型"),
    "preset": ("Quality", "质量"),
    "fast": ("Fast", "快速"),
    "balanced": ("Balanced", "均衡"),
    "arch": ("Backbone", "骨干网络"),
    "train": ("Train", "训练"),
    "use": ("Use this model", "使用此模型"),
    "again": ("Another model", "换一个模型"),
    "learnt_from": ("{count} good pictures learnt", "已学习 {count} 张良品图片"),
    # progress
    "waiting": ("Waiting for another visitor's work", "正在等待其他访客的任务"),
    "training": ("Training", "正在训练"),
    "loading": ("Reading the model", "正在读取模型"),
    "scoring": ("Looking at the pictures", "正在检查图片"),
    "learning": ("Learning the good pictures", "正在学习良品图片"),
    "making": ("Preparing the file", "正在准备文件"),
    "seconds": ("{what}: {seconds} s", "{what}：{seconds} 秒"),
    "failed": ("It did not work: {cause}", "未能完成：{cause}"),
    "bug": (
        "It did not work, and the fault is the program's: its log on the server says more.",
        "未能完成，这是程序的错误：详情见服务器日志。",
    ),
    # test pictures
    "test_step": ("Test pictures", "测试图片"),
    "test_drop": ("Drop pictures to test", "拖入要测试的图片"),
    "test_known": ("These are", "这些图片"),
    "unknown": ("Not known", "未知"),
    "all_good": ("All good", "全部合格"),
    "all_defective": ("All defective", "全部有缺陷"),
    "test_clear": ("Remove all test pictures", "移除所有测试图片"),
    # the threshold
    "rate": ("False alarm rate", "误报率"),
    "rate_help": (
        "The share of good pictures that may be called defective. A smaller one misses more defects.",
        "允许被误判为缺陷的良品比例。越小，漏检的缺陷越多。",
    ),
    "own_threshold": ("Use the threshold set by labelled pictures", "使用由已标注图片确定的阈值"),
    "threshold": ("Threshold", "阈值"),
    "false_alarms": ("False alarms", "误报"),
    "misses": ("Misses", "漏检"),
    "of": ("{count} of {total}", "{count} / {total}"),
    "few": (
        "{count} good pictures can promise a rate of {least:.1%} at best: below that the threshold is an estimate.",
        "{count} 张良品图片最多只能保证 {least:.1%} 的误报率：低于该值时阈值为估计值。",
    ),
    # results
    "results_step": ("Results", "结果"),
    "show": ("Show", "显示"),
    "show_all": ("All", "全部"),
    "show_defects": ("Called defective", "判为缺陷"),
    "show_good": ("Called good", "判为合格"),
    "show_wrong": ("Wrong", "误判"),
    "page": ("Page", "页"),
    "none": ("None.", "无。"),
    "DEFECT": ("Defective", "有缺陷"),
    "GOOD": ("Good", "合格"),
    "score": ("score {score:.3f}", "分数 {score:.3f}"),
    "p_value": ("p-value {p:.2g}", "p 值 {p:.2g}"),
    "truth_True": ("in truth defective", "实际有缺陷"),
    "truth_False": ("in truth good", "实际合格"),
    "wrong": ("Wrong verdict", "判断有误"),
    "undo": ("Undo", "撤销"),
    "chart_learnt": ("learnt", "学习图片"),
    "chart_False": ("good", "合格"),
    "chart_True": ("defective", "有缺陷"),
    "chart_None": ("not known", "未知"),
    "chart_score": ("score", "分数"),
    # feedback
    "feedback_step": ("Feedback", "反馈"),
    "feedback_told": (
        "{good} good and {bad} defective pictures are labelled; {marked} verdicts marked as wrong.",
        "已标注 {good} 张合格、{bad} 张有缺陷的图片；{marked} 个判断被标为有误。",
    ),
    "goal": ("Set the threshold for", "阈值目标"),
    "f1": ("the best F1", "最佳 F1"),
    "recall=0.95": ("at least 95 % of defects found", "至少检出 95 % 的缺陷"),
    "precision=0.9": ("at least 90 % of alarms true", "至少 90 % 的报警为真"),
    "miss_cost=10": ("a miss costs ten false alarms", "一次漏检相当于十次误报"),
    "calibrate": ("Set by labelled pictures", "用已标注图片设定"),
    "calibrated": (
        "The threshold is set by {good} good and {bad} defective pictures.",
        "阈值已由 {good} 张合格和 {bad} 张有缺陷的图片确定。",
    ),
    "learn": ("Learn {count} good pictures", "学习 {count} 张良品图片"),
    # downloads
    "download_step": ("Download", "下载"),
    "export": ("Exported model", "导出的模型"),
    "model": ("Model file", "模型文件"),
    "results": ("Table and heat maps", "表格与热力图"),
    "report": ("Report", "检测报告"),
    "save": ("Save {what}", "保存{what}"),
    # what was refused, and the rest
    "too_large": ("{name} is larger than {most} MB: not taken.", "{name} 超过 {most} MB：未接收。"),
    "too_many_pixels": (
        "{name} has {width} x {height} pixels, more than {most} million: not taken.",
        "{name} 有 {width} x {height} 像素，超过 {most} 百万：未接收。",
    ),
    "no_picture": (
        "{name} is no picture that can be read ({cause}): not taken.",
        "{name} 不是可读取的图片（{cause}）：未接收。",
    ),
    "not_stored": ("{name} cannot be stored on the server: {cause}.", "服务器无法保存 {name}：{cause}。"),
    "no_room": ("{count} pictures are more than there is room for: not taken.", "{count} 张图片超出容量：未接收。"),
    "left_out": ("Left out: {cause}", "已略过：{cause}"),
    "refused": ("{cause}", "{cause}"),
    "full": ("There are too many visitors: come again later.", "访客过多，请稍后再来。"),
    "forget": ("Delete all that is mine", "删除我的全部数据"),
    "privacy": (
        "Your pictures and models are yours alone, and are deleted {minutes} minutes after you close the page.",
        "您的图片和模型仅您可见，关闭页面 {minutes} 分钟后删除。",
    ),
}
"""Texts by key: (English, Chinese)."""


class Say:
    """The texts in one language: `say("own_short", missing=2)`."""

    def __init__(self, language: str) -> None:
        self._column = list(LANGUAGES).index(language)

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of that key, with `values` filled in."""
        return TEXTS[key][self._column].format(**values)

    def line(self, text: str) -> str:
        """Translate lines that the program has in English to this language."""
        return in_chinese(text) if self._column else text


def escaped(value: object) -> object:
    """Escape text from outside, so that it is shown as it is and not as markup; other values are not changed."""
    if not isinstance(value, str):
        return value
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+-.!|~:$<>&" else letter for letter in value)
