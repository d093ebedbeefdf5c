"""The work of ``python -m ste_lightning.export``: from a checkpoint to a file for deployment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor, nn

from ste_lightning.deploy.export import FORMATS
from ste_lightning.deploy.export.export import write
from ste_lightning.deploy.export.verified import Agreement, agreement, verified
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.pack import pack
from ste_lightning.deploy.report import LayerRow, interleaved_latency, layer_rows
from ste_lightning.errors import require, unknown
from ste_lightning.io.progress import progress, stages
from ste_lightning.io.whole_file import write_json, written_together
from ste_lightning.running import files
from ste_lightning.running.checkpoints import loadable
from ste_lightning.running.export_table import export_all, one_by_one
from ste_lightning.running.model_info import model_info
from ste_lightning.running.provenance import provenance
from ste_lightning.running.quiet import quiet
from ste_lightning.running.reading import read_json
from ste_lightning.running.restoring import evaluation_samples, restored
from ste_lightning.running.settings import completed
from ste_lightning.running.tables import table

__all__ = ["Schema", "run_export"]


@dataclass
class Schema:
    """The settings of an export; see conf/export/export.yaml."""

    ckpt_path: str | None = None
    format: str = "packed"
    out: str | None = None
    config: str | None = None
    floats: str = "float32"
    dynamic: Any = None  # a boolean, or "all"
    target: str = ""
    samples: int = 1000
    batch_sizes: list[int] = field(default_factory=lambda: [1, 64])
    seconds: float = 2.0
    threads: int | None = None
    classes: list[str] | None = None
    preprocessing: Any = None  # a mapping: omegaconf merges none into an optional one


_MOST = {"samples": 1 << 20, "threads": 1024, "seconds": 3600}
_COMPARED = 16  # samples on which the packed copy is compared with the model, layer by layer


def run_export(cfg: DictConfig) -> None:
    """Pack the model of a checkpoint, export it, check it on real samples, and report.

    Raises:
        ConfigurationError: for settings that cannot work.
        SystemExit: with status 1 if the exported file does not predict as the model does; no
            file is then written.
    """
    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = completed(given, Schema)
    format = settings["format"]
    if format not in (*FORMATS, "all"):
        raise unknown("format", format, [*FORMATS, "all"])
    for key in ("samples", "threads"):
        count = settings[key]
        right = count is None or 0 < count <= _MOST[key]
        require(right, key, count, f"use an integer from 1 to {_MOST[key]}")
    seconds = settings["seconds"]
    require(0 <= seconds <= _MOST["seconds"], "seconds", seconds, "use seconds from 0 to 3600")
    stated = settings["preprocessing"]
    right = stated is None or isinstance(stated, dict)
    require(right, "preprocessing", stated, "use {KEY: VALUE, ...}")
    sizes = settings["batch_sizes"]
    most = _MOST["samples"]
    right = all(isinstance(size, int) and 0 < size <= most for size in sizes)
    require(right, "batch_sizes", sizes, f"use integers from 1 to {most}")
    require(settings["ckpt_path"] is not None, "ckpt_path", None, "name the checkpoint to export")
    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    checkpoint = Path(str(loadable(settings["ckpt_path"], needed=True)))
    with stages(3) as begin, quiet():
        begin("restoring the network")
        model, data = restored(str(checkpoint), settings["config"])
        begin("reading samples")
        samples = evaluation_samples(data, settings["samples"])
        info = model_info(data, samples, settings["classes"], stated)
        begin("packing the network")
        network = pack(model, samples[:_COMPARED], floats=settings["floats"], info=info)
    console = Console()
    stem = checkpoint.with_suffix("").as_posix()
    dynamic = settings["dynamic"]
    if format == "all":
        stem = settings["out"] or stem
        _print_layers(console, stem, None, layer_rows(network, samples))
        if not export_all(console, model, network, samples, stem, dynamic, settings["seconds"]):
            raise SystemExit(1)
        return
    out = Path(settings["out"] or f"{stem}.{FORMATS[format].ending}")
    with written_together(out) as temporary:  # an earlier file stays unless this one is right
        one = one_by_one(format, dynamic)
        example, target = samples[:1] if one else samples, settings["target"]
        with stages(2) as begin:
            begin(f"writing {out}")
            write(network, temporary, format, example, dynamic, target)
            begin(f"running {out} where it can be run")
            packed, batch = network(samples), 1 if one else None
            rounds = bool(target)
            run, found, reason = verified(
                temporary, format, (samples,), packed, batch, rounds=rounds
            )
        size = temporary.stat().st_size
        _print_layers(console, str(out), size, layer_rows(network, samples))
        lossless = settings["floats"] == "float32"
        if not _print_check(console, model, samples, packed, lossless, found, reason):
            raise SystemExit(1)
    times = _print_latency(console, model, network, run, samples, settings)
    _keep(checkpoint.parent.parent, out, size, samples, times, settings)


def _print_layers(console: Console, out: str, size: int | None, rows: list[LayerRow]) -> None:
    kinds = {"binary": "bit MACs", "integer": "int MACs", "float": "float MACs"}
    used = [key for key in kinds if any(getattr(row, key) for row in rows)]
    columns = ("layer", "kind", "bits", "float32", "packed", *(kinds[key] for key in used))
    shown = table(out, *columns)
    for row in rows:
        counts = [getattr(row, key) for key in used]
        shown.add_row(
            *(row.name, row.kind, row.bits, f"{row.bytes_float:,}", f"{row.bytes_packed:,}"),
            *(f"{count:,}" if count else "" for count in counts),
        )
    total = [sum(getattr(row, key) for row in rows) for key in ("bytes_float", "bytes_packed")]
    macs = [sum(getattr(row, key) for row in rows) for key in used]
    shown.add_section()
    shown.add_row("all", "", "", *(f"{value:,}" for value in (*total, *macs)))
    console.print()
    console.print(shown)
    if size is not None:
        console.print(f"file: {size:,} bytes; the same tensors in float32: {total[0]:,}")


def _print_check(
    console: Console,
    model: nn.Module,
    samples: Tensor,
    packed: Tensor,
    lossless: bool,
    found: Agreement | None,
    reason: str,
) -> bool:
    """Compare predictions; return whether they agree as far as they should."""
    with torch.no_grad():
        trained = agreement(packed, model(samples))
    _print_agreement(console, "packed", trained, "the trained model's")
    if found is None:
        console.print(f"the exported file: not verified, {reason}", soft_wrap=True)
    else:
        _print_agreement(console, "the exported file", found, "the packed ones")
    return (trained.right or not lossless) and (found is None or found.right)


def _print_agreement(console: Console, name: str, found: Agreement, reference: str) -> None:
    ties = f"; {found.turned} samples by more than rounding, as where a tie turns"
    console.print(
        f"{name}: {found.different} of {found.samples} predictions differ from {reference}, "
        f"largest difference {found.worst:.1e}{ties if found.turned else ''}",
        highlight=False,
        soft_wrap=True,
    )


def _print_latency(
    console: Console,
    model: nn.Module,
    network: PackedNetwork,
    run: Any,
    samples: Tensor,
    settings: dict[str, Any],
) -> list[dict[str, float]]:
    """Return the milliseconds of a batch of each size, too."""
    threads = torch.get_num_threads()
    measured = []
    other = [] if run is None or settings["format"] == "packed" else [settings["format"]]
    shown = table(
        f"time of a batch, {threads} thread{'s' if threads > 1 else ''}",
        *("batch", "trained model", "packed", "faster by", *other),
    )
    with progress() as bar:
        for size in bar.track(settings["batch_sizes"], description="measuring times"):
            batch = samples.repeat(-(-size // len(samples)), *[1] * (samples.dim() - 1))[:size]

            def trained(batch: Tensor = batch) -> None:
                with torch.no_grad():
                    model(batch)

            def packed(batch: Tensor = batch) -> None:
                network(batch)

            def exported(batch: Tensor = batch) -> None:
                run(batch)

            functions = (trained, packed, exported) if other else (trained, packed)
            before, after, *rest = interleaved_latency(functions, settings["seconds"])
            named = zip(("trained", "packed", "exported"), (before, after, *rest), strict=False)
            measured.append({"batch": size, **{name: 1e3 * seconds for name, seconds in named}})
            times = [f"{before * 1e3:.3f} ms", f"{after * 1e3:.3f} ms", f"{before / after:.1f}x"]
            shown.add_row(str(size), *times, *(f"{time * 1e3:.3f} ms" for time in rest))
    console.print()
    console.print(shown)
    return measured


def _keep(
    folder: Path,
    out: Path,
    size: int,
    samples: Tensor,
    times: list[dict[str, float]],
    settings: dict[str, Any],
) -> None:
    """Keep size and speed in the run's folder, and make its page again; other folders get none."""
    if not (folder / files.RESULTS).is_file():
        return
    record = {
        "file": out.name,
        "bytes": size,
        "samples": len(samples),
        "threads": torch.get_num_threads(),
        "processor": provenance()["hardware"]["processor"],
        "milliseconds": times,
    }
    kept = folder / files.EXPORTS
    earlier = read_json(kept) if kept.is_file() else {}
    write_json(kept, {**earlier, settings["format"]: record})
    if (folder / files.PAGE).is_file():
        from ste_lightning.running.pages import attempted, write_run_page

        attempted(lambda: write_run_page(folder))
