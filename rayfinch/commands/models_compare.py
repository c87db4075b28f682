"""`rayfinch models compare`: what a challenger would change, from what the stream has kept of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rayfinch.registered import Json

app = typer.Typer()


@app.command()
def compare(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    config: Annotated[Path, typer.Option("--config", help="The stream's YAML file: its archive is read.")],
    where: Annotated[str, typer.Option(help="Which alerts: a SQL predicate over the archive.")] = "true",
    as_json: Json = False,
) -> None:
    """Compare champion and challenger on the alerts that both have scored, and say how the nights drift.

    Drift is the population stability index of each input and score of a night against all nights before:
    above 0.1 something has changed, above 0.25 a lot.

    Example: rayfinch models compare stamps --config my.yaml
    """
    from broker.archive.archive import Archive
    from models.folders import RegistryError
    from models.manifest import read_manifest
    from rayfinch.config import load
    from rayfinch.wiring import deployed
    from training import comparison

    settings = load(config)
    models = deployed(settings)
    if name not in models:
        raise RegistryError(f"{config} has no model {name!r}, but {', '.join(models) or 'none'}")
    manifest = read_manifest(models[name].folder / models[name].current())
    archive = Archive(settings.archive.uri, settings.survey, settings.archive.storage_options or None)
    wanted = {path.partition(".")[0] for path in manifest.inputs} - {"history", "cutouts", "cutout_shape"}
    kept = archive.get(limit=1).column_names
    read = [c for c in kept if c in wanted | {"alert_id", "mjd", "scores", "shadow"}]
    table = archive.get(where=where, columns=read)
    champion = comparison.said(table, "scores", name)
    challenger = comparison.said(table, "shadow", name) if "shadow" in kept else None
    found: dict[str, Any] = {"model": name, "alerts": len(table)}
    if champion is not None:
        publish = settings.publish
        threshold = publish.thresholds.get(name, publish.threshold)
        found |= {"champion": champion.version, "drift": comparison.drift(table, champion, manifest.inputs)}
        if challenger is not None:
            found |= {"challenger": challenger.version, "no_shadow_score": dict(challenger.failed)}
            found["comparison"] = comparison.compared(champion, challenger, threshold)
    print(json.dumps(found) if as_json else "\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:
    from training.comparison import NOTICED

    if "champion" not in found:
        return [f"no score of {found['model']} in {found['alerts']} alerts"]
    lines = [f"{found['model']}: champion {found['champion']}, {found['alerts']} alerts"]
    for night, index in found["drift"].items():
        moved = {k: v for k, v in sorted(index.items(), key=lambda item: -item[1]) if v >= NOTICED}
        lines.append(
            f"night {night}: " + (", ".join(f"{k} {v:.2f}" for k, v in moved.items()) or "as before")
        )
    if "challenger" not in found:
        return [*lines, "no challenger has scored them yet: rayfinch models challenge NAME@VERSION sets one"]
    lines += [
        f"{n} alerts without a score of the challenger: {why}" for why, n in found["no_shadow_score"].items()
    ]
    between = found["comparison"]
    if not between["alerts"]:
        return [*lines, f"challenger {found['challenger']}: {between['reason']}"]
    lines.append(
        f"challenger {found['challenger']}: the same top class for {between['same_top_class']:.1%} of "
        f"{between['alerts']} alerts, mean difference {between['mean_difference']:.4f}"
    )
    for name, topic in between["topics"].items():
        lines.append(
            f"{name:12} {topic['now']:7} in its topic, {topic['enter']} would enter, {topic['leave']} leave"
        )
    return lines
