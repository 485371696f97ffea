"""``zoo push`` and ``zoo pull``: bundles on the hub and elsewhere."""

from __future__ import annotations

import click

from zoo.cli.bundle_source import download_progress, sha256_option
from zoo.cli.console import note, relative, warn


@click.command()
@click.argument("bundle")
@click.argument("target", metavar="hf://OWNER/REPO")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option("--message", default="", help="First line of the commit.")
def push(bundle: str, target: str, private: bool, message: str) -> None:
    """Upload BUNDLE to a model repository of the Hugging Face hub, as one commit.

    \b
    zoo push runs/unet hf://survey/landslides
    zoo push runs/unet hf://survey/landslides@candidate --private

    The commit holds model.safetensors, bundle.json, README.md (the model card) and its pictures. The repository is
    created if it does not exist. Log in first: hf auth login, or set HF_TOKEN. HF_ENDPOINT names another hub.
    """
    from zoo.api.weights import push as push_bundle

    note(f"uploading to {target}")
    done = push_bundle(bundle, target, private=private, message=message, notify=warn)
    click.echo(done.address)
    note(f"{len(done.files)} files, {done.bytes / 1e6:.1f} MB: {', '.join(done.files)}")
    note(f"page: {done.url}")
    note(f"this address always means these files: zoo map {done.address} scene.tif --out map.tif")


@click.command()
@click.argument("source")
@sha256_option
@click.option("--out", metavar="FOLDER", help="Also copy the bundle to this folder.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle in --out.")
def pull(source: str, sha256: str | None, out: str | None, overwrite: bool) -> None:
    """Download the bundle SOURCE: weights of zoo weights, a .zip, an https address, or hf://owner/repo[@revision].

    \b
    zoo pull hf://survey/landslides --out runs/survey
    zoo pull 'https://example.org/unet.zip#sha256=...'

    Commands that take a bundle download it themselves. Use pull to have the files before you go offline, or to look at
    them. The folder is printed.
    """
    from zoo.api.weights import pull as pull_bundle

    with download_progress() as show:
        done = pull_bundle(source, out, sha256=sha256, overwrite=overwrite, progress=show, notify=note)
    click.echo(relative(done.folder))
    if done.address:
        note(f"this address always means these files: {done.address}")
