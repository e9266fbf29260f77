"""The report for people: one HTML file with everything in it (tables, plots as SVG, crops with a slider), no network.

>>> page(report)[:15]                                            # doctest: +SKIP
'<!doctype html>'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from apisr.evaluate.compare import Comparison
from apisr.evaluate.report import MetricInfo, Report
from apisr.evaluate.shots import Shot
from apisr.evaluate.statistics import Summary
from apisr.evaluate.text import ARROWS, interval, number, worst_of
from apisr.metrics.temporal import FLICKER

_PLOT_WIDTH_PX, _PLOT_HEIGHT_PX = 560, 74


def page(report: Report, *, shots: Sequence[Shot] = (), comparison: Comparison | None = None) -> str:
    """Lay out a report as one HTML document.

    Args:
        report: what to show.
        shots: crops to look at.
        comparison: paired differences to another report.
    """
    who = "outputs as given" if report.model is None else report.model.name
    parts = [
        f"<h1>{escape(who)} <small>on {escape(report.pictures_from)}</small></h1>",
        _facts(report),
        _notices(report),
        "<h2>Means</h2>",
        _summary(report),
    ]
    if comparison is not None:
        parts += ["<h2>Against the other report</h2>", _differences(comparison, report.protocol.confidence)]
    if shots:
        parts += ["<h2>Worst, middle, best</h2>", *(_shot(shot) for shot in shots)]
    parts += ["<h2>All values</h2>", *(_plot(report, metric) for metric in report.metrics)]
    if report.clips:
        parts += ["<h2>Clips</h2>", _clips(report)]
    parts += ["<h2>Pictures</h2>", _pictures(report), "<h2>How it was measured</h2>", _provenance(report)]
    title = escape(f"{who}: apisr evaluate")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n</main><script>{_SCRIPT}</script></body></html>\n"
    )


def _facts(report: Report) -> str:
    count = f"{len(report.pictures)} pictures"
    if report.clips:
        count = f"{len(report.pictures)} frames of {len(report.clips)} clips"
    facts = [count, f"protocol {report.protocol.name}", f"border {report.protocol.border_px} px"]
    if report.reference_from is not None:
        facts.insert(1, f"ground truth {report.reference_from}")
    return f"<p class='facts'>{' &middot; '.join(escape(fact) for fact in facts)}</p>"


def _notices(report: Report) -> str:
    lines = [f"{name}: {reason}" for name, reason in report.absent.items()] + report.notices
    if not lines:
        return ""
    return "<ul class='notices'>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _summary(report: Report) -> str:
    rows = [
        [
            _metric_cell(report.metric(name)),
            f"<b>{number(summary.mean, name)}</b>",
            interval(summary, name),
            number(summary.median, name),
            number(worst_of(report.metric(name), summary), name),
            str(summary.count),
        ]
        for name, summary in report.summary.items()
    ]
    head = ["metric", "mean", f"{report.protocol.confidence:.0%} interval", "median", "worst", "n"]
    return _table(head, rows)


def _differences(comparison: Comparison, confidence: float) -> str:
    rows = [
        [
            _metric_cell(difference.metric),
            f"<b>{number(difference.summary.mean, name, signed=True)}</b>",
            interval(difference.summary, name, signed=True),
            f"{difference.better} / {difference.worse}",
            _verdict(difference.metric, difference.summary),
        ]
        for name, difference in comparison.differences.items()
    ]
    table = _table(
        ["metric", "mean of differences", f"{confidence:.0%} interval", "better / worse on", "beyond chance"], rows
    )
    return table + "".join(f"<p class='facts'>{escape(notice)}</p>" for notice in comparison.notices)


def _verdict(metric: MetricInfo, difference: Summary) -> str:
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return "no"
    if metric.better == "zero":
        return "different"
    return "better" if (difference.mean > 0) == (metric.better == "higher") else "worse"


def _clips(report: Report) -> str:
    rows: list[list[str]] = []
    for clip in report.clips:
        value = clip.values.get(FLICKER)
        shown = escape(clip.absent.get(FLICKER, "-")) if value is None else number(value, FLICKER)
        rows.append([escape(clip.name), str(clip.frames), str(clip.scored), shown])
    return _table(["clip", "frames", "scored", "flicker of held drawings"], rows)


def _pictures(report: Report) -> str:
    metrics = [metric for metric in report.metrics if metric.name != FLICKER]
    rows = [
        [
            escape(score.name),
            f"{score.width}x{score.height}",
            *(_value_cell(score.values, score.absent, metric.name) for metric in metrics),
        ]
        for score in report.pictures
    ]
    return "<div class='wide'>" + _table(["picture", "size", *(metric.title for metric in metrics)], rows) + "</div>"


def _value_cell(values: Mapping[str, float], absent: Mapping[str, str], name: str) -> str:
    if name in values:
        return number(values[name], name)
    return f"<span title='{escape(absent.get(name, 'not computed'), quote=True)}'>absent</span>"


def _metric_cell(metric: MetricInfo) -> str:
    unit = f" ({escape(metric.unit)})" if metric.unit else ""
    tip = escape(metric.source, quote=True)
    return f"<span title='{tip}'>{escape(metric.title)}{unit}</span> <i>{ARROWS[metric.better]}</i>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table><thead><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr></thead><tbody>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</tbody></table>"])


def _plot(report: Report, metric: MetricInfo) -> str:
    """One dot a picture (or clip) along the metric's axis; the band is the interval of the mean."""
    records = report.clips if metric.name == FLICKER else report.pictures
    values = [(record.values[metric.name], record.name) for record in records if metric.name in record.values]
    summary = report.summary.get(metric.name)
    if not values or summary is None:
        return ""
    low, high = min(value for value, _ in values), max(value for value, _ in values)
    if high == low:
        low, high = low - 0.5, high + 0.5
    left, right = 12.0, _PLOT_WIDTH_PX - 12.0

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    marks: list[str] = []
    if summary.low is not None and summary.high is not None:
        start, end = x(max(summary.low, low)), x(min(summary.high, high))
        marks.append(f"<rect class='band' x='{start:.1f}' y='14' width='{end - start:.1f}' height='34'/>")
    marks.append(f"<line class='axis' x1='{left}' x2='{right}' y1='52' y2='52'/>")
    marks.append(f"<line class='mean' x1='{x(summary.mean):.1f}' x2='{x(summary.mean):.1f}' y1='12' y2='52'/>")
    used: dict[int, int] = {}
    for value, name in sorted(values):
        column = int(x(value) // 7)
        level = used.get(column, 0)
        used[column] = level + 1
        tip = f"{escape(name)}: {number(value, metric.name)}"
        marks.append(f"<circle cx='{x(value):.1f}' cy='{46 - 7 * (level % 5):.1f}' r='3'><title>{tip}</title></circle>")
    labels = [
        (low, "start", left),
        (summary.mean, "middle", min(max(x(summary.mean), 90), right - 90)),
        (high, "end", right),
    ]
    for value, anchor, place in labels:
        marks.append(f"<text x='{place:.1f}' y='68' text-anchor='{anchor}'>{number(value, metric.name)}</text>")
    box = f"viewBox='0 0 {_PLOT_WIDTH_PX} {_PLOT_HEIGHT_PX}'"
    return (
        f"<figure><figcaption>{_metric_cell(metric)}</figcaption><svg {box} role='img'>{''.join(marks)}</svg></figure>"
    )


def _shot(shot: Shot) -> str:
    labels = list(shot.panels)
    value = f"{number(shot.value, shot.metric.name)} {escape(shot.metric.unit)}"
    caption = (
        f"<b>{escape(shot.role)}</b> by {escape(shot.metric.title)}: {escape(shot.name)}, {value}"
        f" <i>at x {shot.left_px}, y {shot.top_px}</i>"
    )
    if len(labels) == 1:
        body = f"<div class='cmp'><img src='{shot.panels[labels[0]]}' alt='{labels[0]}'></div>"
        return f"<figure class='shot'><figcaption>{caption}</figcaption>{body}</figure>"
    under, over = labels[-1], labels[-2]
    chooser = ""
    if len(labels) > 2:
        options = "".join(f"<option{' selected' if label == over else ''}>{label}</option>" for label in labels[:-1])
        chooser = f"<label>left <select>{options}</select></label> "
    hidden = "".join(f"<img hidden data-label='{label}' src='{uri}' alt=''>" for label, uri in shot.panels.items())
    body = (
        f"<div class='cmp'><img class='under' src='{shot.panels[under]}' alt='{under}'>"
        f"<div class='over'><img src='{shot.panels[over]}' alt='{over}'></div><div class='bar'></div>"
        f"<span class='tag l'>{over}</span><span class='tag r'>{under}</span></div>"
        f"<div class='ctl'>{chooser}<input type='range' min='0' max='100' value='50' aria-label='divide'></div>{hidden}"
    )
    return f"<figure class='shot'><figcaption>{caption}</figcaption>{body}</figure>"


def _provenance(report: Report) -> str:
    model = report.model
    rows = [["made", escape(f"{report.time.started} to {report.time.finished}")]]
    if model is not None:
        rows.append(
            ["model", escape(f"{model.name} x{model.scale}, {model.engine}, licence {model.license or 'not stated'}")]
        )
        rows.append(["weights", f"<code>{model.sha256 or 'none'}</code>"])
    protocol = ", ".join(
        f"{key} {value}" for key, value in report.protocol.model_dump().items() if not key.endswith("_metrics")
    )
    rows.append(["protocol", escape(protocol)])
    rows.append(["versions", escape(", ".join(f"{name} {version}" for name, version in report.versions.items()))])
    rows += [[escape(metric.title), escape(metric.source)] for metric in report.metrics]
    rows.append(["hashes", "of every input, reference and output: in report.json"])
    return _table(["what", "value"], rows)


_STYLE = """
:root{color-scheme:light dark;--ink:#1c2530;--dim:#67727f;--line:#d8dee5;--paper:#fff;--accent:#2563a8;--band:#2563a826}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ee;--dim:#93a0ad;--line:#36404b;--paper:#14191f;--accent:#6aa9ee;
--band:#6aa9ee33}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1060px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:26px;margin:0}h1 small{font-size:16px;color:var(--dim);font-weight:400}h2{font-size:18px;margin:34px 0 8px}
.facts,i{color:var(--dim);font-style:normal}i{font-size:12px}.notices{border-left:3px solid #c77d1a;padding-left:26px}
table{border-collapse:collapse}th,td{padding:4px 14px 4px 0;border-bottom:1px solid var(--line);text-align:right;
font-variant-numeric:tabular-nums;vertical-align:top}th{color:var(--dim);font-weight:500;font-size:13px}
th:first-child,td:first-child,table:last-of-type td{text-align:left}.wide{overflow-x:auto}.wide td{white-space:nowrap}
code{font-size:12px;overflow-wrap:anywhere}
figure{display:inline-block;margin:6px 24px 10px 0;vertical-align:top}figcaption{font-size:13px}
svg{width:500px;max-width:100%;display:block}svg text{font-size:11px;fill:var(--dim)}.axis{stroke:var(--line)}
.mean{stroke:var(--accent);stroke-width:2}.band{fill:var(--band)}circle{fill:var(--ink);opacity:.6}
.shot{width:480px;max-width:100%}.cmp{position:relative;line-height:0;overflow:hidden;border-radius:4px;touch-action:none}
.cmp img{width:100%;display:block}.over{position:absolute;inset:0;overflow:hidden;clip-path:inset(0 50% 0 0)}
.bar{position:absolute;top:0;bottom:0;left:50%;width:2px;margin-left:-1px;background:#fff;box-shadow:0 0 3px #000}
.tag{position:absolute;top:6px;line-height:1.4;font-size:12px;background:#000a;color:#fff;padding:0 6px;
border-radius:3px}
.l{left:6px}.r{right:6px}.ctl{display:flex;gap:12px;align-items:center;margin-top:4px;font-size:13px}.ctl input{flex:1}
"""

_SCRIPT = """
for (const shot of document.querySelectorAll('.shot')) {
  const range = shot.querySelector('input'); if (!range) continue;
  const box = shot.querySelector('.cmp'), over = shot.querySelector('.over'), bar = shot.querySelector('.bar');
  const move = value => {
    range.value = value; over.style.clipPath = `inset(0 ${100 - value}% 0 0)`; bar.style.left = value + '%';
  };
  range.addEventListener('input', () => move(+range.value));
  const drag = event => {
    const rect = box.getBoundingClientRect();
    move(Math.min(100, Math.max(0, (event.clientX - rect.left) / rect.width * 100)));
  };
  box.addEventListener('pointerdown', event => { box.setPointerCapture(event.pointerId); drag(event); });
  box.addEventListener('pointermove', event => { if (event.buttons) drag(event); });
  const choose = shot.querySelector('select');
  if (choose) choose.addEventListener('change', () => {
    over.querySelector('img').src = shot.querySelector(`[data-label="${choose.value}"]`).src;
    shot.querySelector('.l').textContent = choose.value;
  });
}
"""
