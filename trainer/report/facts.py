"""Words of a report: what came out, how the model was trained, what data and settings it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.report import page, pictures

if TYPE_CHECKING:
    from trainer.scored import Scored


def summary(scores: Scored, body: dict[str, Any]) -> page.Section:
    """The result in one or two sentences, and the numbers that one looks for first."""
    about = scores.about
    read = about.data.get("path", "the data")
    html = page.paragraph(
        f"{about.bundle.get('model', 'model')} on {read}: {body['samples']:,} samples of "
        f"{body['series']:,} series, {body['counted']:,} of them count "
        f"({body['series_days']:.4g} series-days judged)."
    )
    if "event_wise" not in body:
        rate = body["episodes_per_series_day"]
        html += page.paragraph(
            f"{body['episodes']:,} episodes"
            + ("" if rate is None else f", {rate:.3g} per series and day")
            + ". Nothing was labelled, so it is unknown which of them are true.",
            "lead",
        )
        cards = [
            (page.shown(body["episodes"]), "episodes"),
            (page.shown(rate), "episodes per series and day"),
            (page.shown(body["errors"]["mae"]), "mean absolute error"),
        ]
        return page.Section("summary", "Summary", html + page.cards(cards))
    events, ranks, delay = body["event_wise"], body["ranks"], body["detection_delay"]
    low, high = events["recall_interval"]
    text = f"Found {events['found']:,} of {events['anomalies']:,} labelled anomalies"
    if events["anomalies"]:
        text += f" (95% interval of recall {low:.2f} to {high:.2f})"
    rate = body["false_alarms_per_day"]
    text += f", with {events['false']:,} false alarm{'' if events['false'] == 1 else 's'}"
    text += "." if rate is None else f": {rate:.3g} per series and day."
    after = page.shown(round(delay["samples"]["median"])) if events["found"] else ""
    if events["found"] == 1:
        text += f" The alarm came {after} samples after the anomaly's start."
    elif events["found"]:
        text += f" Half of the alarms came within {after} samples of the anomaly's start."
    html += page.paragraph(text, "lead")
    cards = [
        (page.shown(events["recall"]), "recall, whole anomalies"),
        (page.shown(events["precision"]), "precision, whole anomalies"),
        (page.shown(rate), "false alarms per series and day"),
        (page.shown(body["points"]["f1"]), "F1 of samples"),
        (page.shown(ranks["roc_auc"]), "ROC-AUC"),
        (page.shown(ranks["vus_pr"]), "VUS-PR"),
    ]
    return page.Section("summary", "Summary", html + page.cards(cards))


def training(scores: Scored) -> page.Section:
    """Loss of each pass, where it was kept."""
    about = scores.about
    if not about.history:
        html = page.paragraph(
            "The losses of single passes were not kept with this bundle; its training ended with "
            "the values in the table below."
        )
    else:
        last = "; ".join(
            f"scale {scale}: {len(next(iter(lines.values()), []))} passes"
            for scale, lines in about.history.items()
        )
        html = page.figure(
            pictures.losses(about.history), f"Training and validation loss, {last}.", last
        )
    rows = [
        [name, int(value) if float(value).is_integer() else value]
        for name, value in about.bundle.get("metrics", {}).items()
    ]
    if rows:
        html += page.table("What training left in the bundle", ["value", "number"], rows)
    return page.Section("training", "Training", html)


def configuration(scores: Scored, body: dict[str, Any]) -> page.Section:
    """Enough to do it again."""
    about = scores.about
    data = {**about.data, "labels": body["labels_from"] or "none", "features": about.features}
    if about.begins:
        data["counts from"] = "the end of each series' training part, as its name tells"
    html = page.table(
        "Data", ["what", "value"], [[key, _text(value)] for key, value in data.items()]
    )
    bundle = {key: value for key, value in about.bundle.items() if value != "" and key != "metrics"}
    html += page.table(
        "Bundle", ["what", "value"], [[key, _text(value)] for key, value in bundle.items()]
    )
    return page.Section("configuration", "Data and configuration", html)


def _text(value: Any) -> str:
    """Nested settings as `key value` pairs, in one line each."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(part, dict) for part in value)
        return ("; " if nested else ", ").join(_text(part) for part in value) or "none"
    if value is None:
        return page.NONE
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
