// Runs the network beside the page, so that the page never waits for it. Started by live.js.
//
// In: { load: address of the folder }, then { id, name, pixels: RGBA of all frames, change }.
// Out: { got, total } in bytes, { ready: record }, then { id, top, ledger, json, sheet, frame, seconds,
// activations, weight }, of which <cam-viewer> shows json and sheet; { failed: why } at any time.

let record, session, ort, graph;
const unzipped = async bytes => {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes; // the server has done it already
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

/** A file, kept by the browser under its address; `got` hears of every piece. */
const fetched = async (url, store, got) => {
  const kept = await store?.match(url);
  const answer = kept ?? await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname.split("/").pop()} is missing`);
  const pieces = [];
  const reader = answer.body.getReader();
  for (let piece; !(piece = await reader.read()).done;) {
    pieces.push(piece.value);
    got(piece.value.length);
  }
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  if (!kept) await store?.put(url, new Response(bytes)).catch(() => {}); // no room: again next time
  return bytes;
};

/** Opens the graph on a GPU or without one; a GPU has to give the logits of the record's test. */
const open = async on => {
  record.on = on;
  const how = { executionProviders: [on === "gpu" ? "webgpu" : "wasm"], logSeverityLevel: 3 };
  session = await ort.InferenceSession.create(graph, how);
  if (on === "cpu") return;
  const length = record.frames * record.size ** 2 * 3;
  const { logits } = await run(Uint8Array.from({ length }, (_, i) => 31 * i % 251));
  const near = record.test.every((logit, k) => Math.abs(logit - logits.data[k]) < 0.01);
  if (!near) throw new Error("the GPU gives other logits");
};

/** After an error on a GPU, the same without one. */
const withoutGpu = again => async error => {
  if (record.on !== "gpu") throw error;
  await open("cpu");
  return again();
};

const load = async folder => {
  const at = (name, version) => new URL(`${name}?${version}`, folder);
  record = await (await fetch(at("network.json", "now"), { cache: "no-cache" })).json();
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const real = adapter && (!adapter.info?.isFallbackAdapter || location.search === "?any");
  const on = real ? "gpu" : "cpu"; // a GPU that a CPU plays is slower
  record.files = record.files.filter(file => [on, "both"].includes(file.on));
  const store = await globalThis.caches?.open("cam-live").catch(() => undefined);
  const wanted = record.files.map(({ name, version }) => at(name, version));
  for (const { url } of (await store?.keys()) ?? []) { // of an earlier version
    if (!wanted.some(({ href }) => href === url)) await store.delete(url);
  }
  const total = record.files.reduce((sum, { bytes }) => sum + bytes, 0);
  let sum = 0;
  const got = bytes => postMessage({ got: sum += bytes, total });
  const [runtime, network] = await Promise.all(wanted.map(url => fetched(url, store, got)));
  ort = await import(at(record.files[0].script, record.files[0].version));
  ort.env.wasm.numThreads = 1; // more need headers that hosts of static pages do not send
  ort.env.wasm.wasmBinary = await unzipped(runtime);
  graph = await unzipped(network);
  await open(on).catch(withoutGpu(() => {}));
  postMessage({ ready: record });
};

/** Frame numbers of a changed clip. */
const ORDERS = {
  backwards: count => [...Array(count).keys()].reverse(),
  still: count => Array(count).fill(count >> 1),
  shuffled: count => [...Array(count).keys()].sort((a, b) => (7 * a + 3) % count - (7 * b + 3) % count),
};

/** Frames (T, S, S, 4) in another order, or as in a mirror. */
const changed = (pixels, change) => {
  const { frames, size } = record;
  const each = pixels.length / frames;
  const out = new Uint8ClampedArray(pixels.length);
  if (change === "mirrored") {
    const [from, to] = [pixels, out].map(({ buffer }) => new Uint32Array(buffer));
    from.forEach((pixel, place) => { to[place - 2 * (place % size) + size - 1] = pixel; });
  } else {
    ORDERS[change](frames).forEach((from, to) => {
      out.set(pixels.subarray(from * each, (from + 1) * each), to * each);
    });
  }
  return out;
};

const run = rgb => session.run(
  { frames: new ort.Tensor("uint8", rgb, [record.frames, record.size, record.size, 3]) });
const base64 = bytes => new FileReaderSync().readAsDataURL(new Blob([bytes])).split(",")[1];

/** All frames in one picture, as viewer.py lays them out. */
const contactSheet = async pixels => {
  const { frames, size } = record;
  const columns = Math.ceil(Math.sqrt(frames));
  const canvas = new OffscreenCanvas(columns * size, Math.ceil(frames / columns) * size);
  const context = canvas.getContext("2d");
  for (let frame = 0; frame < frames; frame++) {
    const part = pixels.subarray(frame * size * size * 4, (frame + 1) * size * size * 4);
    context.putImageData(new ImageData(part, size),
      frame % columns * size, Math.floor(frame / columns) * size);
  }
  const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.9 });
  const layout = { frames, columns, width: size, height: size };
  return [layout, new FileReaderSync().readAsDataURL(blob)];
};

const explain = async ({ id, name, pixels, change }) => {
  if (change) pixels = changed(pixels, change);
  const rgb = new Uint8Array(pixels.filter((_, at) => at % 4 < 3));
  const { frames, fps, size, shape, viewer } = record;
  const began = performance.now();
  const out = await run(rgb).catch(withoutGpu(() => run(rgb))); // it can be lost
  const seconds = (performance.now() - began) / 1000;
  const logits = Array.from(out.logits.data);
  const most = Math.max(...logits);
  const powers = logits.map(logit => Math.exp(logit - most));
  const whole = powers.reduce((a, b) => a + b);
  const probabilities = powers.map(power => power / whole);
  const top = [...logits.keys()].sort((a, b) => logits[b] - logits[a]);
  const maps = out.maps.data;
  const each = maps.length / logits.length;
  const values = new Int16Array(maps.length);
  const step = each / shape[0];
  const scales = [];
  const ledger = logits.map((_, k) => {
    const map = maps.subarray(k * each, (k + 1) * each);
    const scale = map.reduce((large, value) => Math.max(large, Math.abs(value)), 0) / 32767;
    scales.push(scale);
    map.forEach((value, place) => { values[k * each + place] = Math.round(value / (scale || 1)); });
    return Array.from({ length: shape[0] }, (_, t) =>
      map.subarray(t * step, (t + 1) * step).reduce((sum, value) => sum + value, 0));
  });
  const [layout, sheet] = await contactSheet(pixels);
  const json = JSON.stringify({
    ...viewer, logits, probabilities, ledger, label: null, mask: null, name, sheet: layout,
    times: Array.from({ length: frames }, (_, frame) => frame / fps),
    maps: { shape: [logits.length, ...shape], scales, values: base64(values) },
  });
  const frame = ledger[top[0]].indexOf(Math.max(...ledger[top[0]]));
  const said = top.map(index => ({ index, name: viewer.classes[index], p: probabilities[index] }));
  const made = { activations: out.activations.data, weight: out.weight.data };
  postMessage({ id, top: said, ledger, json, sheet, frame, seconds, ...made });
};

onmessage = async ({ data }) => {
  try {
    await (data.load ? load(data.load) : explain(data));
  } catch (error) {
    postMessage({ id: data.id, failed: String(error?.message ?? error) });
  }
};
