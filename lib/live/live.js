// <cam-live src="FOLDER/">: the network of the book runs in this page, on what the reader shows it.
//
// Nothing is loaded before a click, and nothing that is shown leaves the page: worker.js does the work.
// Clips come from pictures inside (`<img data-clip="NAME">`, all frames in one sheet), a file, a camera,
// or what calls `explain` with { name, pixels }, RGBA of all frames. Answers stand side by side; the one
// that is chosen is in <cam-viewer>. Events: cam-live:ready, and cam-live:answer, which is its detail.
(() => {
  const TAG = "cam-live";
  if (customElements.get(TAG)) return;

  const STYLE = `
    cam-live { display: block; max-width: 43rem; margin: .5rem 0; padding: .75rem;
      color-scheme: light dark; color: light-dark(#1d1e22, #ececf0); border-radius: 10px;
      background: light-dark(#fcfcfb, #17181c); border: 1px solid light-dark(#d5d6da, #3b3e47);
      font: 400 .875rem/1.45 system-ui, sans-serif; --line: light-dark(#d5d6da, #3b3e47);
      --well: light-dark(#eff0f1, #22242a); --accent: light-dark(#0a5ea8, #80bfff); }
    html[data-theme=light] cam-live { color-scheme: light; }
    html[data-theme=dark] cam-live { color-scheme: dark; }
    .text_html:has(cam-live) { background: none !important; padding: 0 !important; }
    cam-live > img, cam-live [hidden] { display: none !important; }
    cam-live p { margin: .4rem 0; font-size: inherit; color: inherit; }
    cam-live .line { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; margin: .5rem 0; }
    cam-live button { font: inherit; color: inherit; padding: .3rem .7rem; cursor: pointer;
      border: 1px solid var(--line); border-radius: 6px; background: var(--well); }
    cam-live button:hover { border-color: var(--accent); }
    cam-live button:disabled { opacity: .6; cursor: default; }
    cam-live :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    cam-live progress { flex: 1; min-width: 8rem; accent-color: var(--accent); }
    cam-live .answers { display: grid; gap: .75rem; margin: .5rem 0;
      grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
    cam-live .answers > button { display: flex; flex-direction: column; align-items: stretch;
      text-align: start; background: none; }
    cam-live .answers > [aria-pressed=true] { border-color: var(--accent);
      box-shadow: inset 0 0 0 1px var(--accent); }
    cam-live .answers span { display: block; }
    cam-live .bar { position: relative; display: flex !important; gap: .5rem; padding: .1rem .3rem;
      justify-content: space-between; isolation: isolate; font-variant-numeric: tabular-nums; }
    cam-live .bar i { position: absolute; inset: 1px auto 1px 0; z-index: -1; border-radius: 3px;
      background: light-dark(#f4c9a8, #7a4416); }
    cam-live .sums { display: flex !important; height: 3rem; margin-top: auto; gap: 1px; }
    cam-live .sums i { position: relative; flex: 1; background: light-dark(#c2410c, #fb923c); }
    cam-live .sums .less { background: light-dark(#47658f, #8fb1e0); }
    cam-live .made { width: 100%; font-variant-numeric: tabular-nums; }
    cam-live .made * { font-size: inherit; color: inherit; background: none !important; }
    cam-live .made :is(th, td) { text-align: end; padding: .1rem .3rem; border: 0; }
    cam-live .made :is(caption, th:first-child) { text-align: start; caption-side: top; }
    cam-live video { display: block; width: 100%; max-width: 20rem; border-radius: 6px; }`;

  const { element, define, pause, probability } = customElements.get("cam-viewer").tools;
  const CHANGES = {
    backwards: "backwards", still: "held still", shuffled: "shuffled", mirrored: "mirrored",
  };
  const SHOWN = 5; // classes in an answer, channels in a cell
  const signed = value => `${value < 0 ? "−" : "+"}${Number(Math.abs(value).toPrecision(3))}`;
  const button = (textContent, act, properties = {}) => {
    const made = element("button", { type: "button", textContent, ...properties });
    made.addEventListener("click", act);
    return made;
  };
  const once = (target, good, bad = "error") => new Promise((done, failed) => {
    target.addEventListener(good, done, { once: true });
    target.addEventListener(bad, failed, { once: true });
  });

  /** What is missing in this browser, or nothing. */
  const missing = () => {
    if (location.protocol === "file:") {
      return "From a file, browsers run no network. Serve the book's folder " +
        "(python -m http.server --directory _build/html) and open the page there.";
    }
    const absent = ["WebAssembly", "Worker", "OffscreenCanvas", "DecompressionStream"]
      .find(name => !(name in window));
    return absent ? `This browser is too old to run it: it has no ${absent}.` : "";
  };

  class CamLive extends HTMLElement {
    static button = button; // for the stage
    #worker;
    #waiting = new Map(); // question number to what waits for its answer
    #asked = 0;
    #answers = []; // at most two, { title, clip, top, ... }
    #chosen;
    #cell; // of the viewer, that was pointed at last
    #parts = {};

    connectedCallback() {
      if (document.readyState !== "loading") queueMicrotask(() => this.#build());
      else document.addEventListener("DOMContentLoaded", () => this.#build(), { once: true });
    }

    disconnectedCallback() { this.#stop(); }

    record; // of the network, once it is loaded

    #build() {
      if (this.#parts.load) return;
      const part = this.#parts;
      part.load = button("Load the network, 7 to 10 MB", () => this.load().catch(() => {}));
      part.cancel = button("Cancel", () => this.#failed("Loading was cancelled."), { hidden: true });
      part.progress = element("progress", { hidden: true, ariaLabel: "Loading the network" });
      part.bytes = element("span");
      part.status = element("p", { className: "status", role: "status" });
      part.file = element("input", { type: "file", accept: "video/*", hidden: true });
      part.file.addEventListener("change", () => {
        const [file] = part.file.files;
        part.file.value = ""; // so that the same file can be chosen again
        if (file) this.try(() => this.#fromFile(file));
      });
      const clips = [...this.querySelectorAll("img[data-clip]")].map(picture =>
        button(picture.dataset.clip, () => this.try(() => this.#fromSheet(picture))));
      part.sources = element("div", { className: "line sources", hidden: true }, "A clip:", ...clips,
        button("A video of your own", () => part.file.click()), part.file);
      if (navigator.mediaDevices) {
        part.sources.append(button("Your camera, 4 seconds", () => this.try(() => this.#film())));
      }
      part.video = element("video", { muted: true, playsInline: true, hidden: true });
      part.answers = element("div", { className: "answers" });
      part.changes = element("div", { className: "line changes", hidden: true, role: "group",
        ariaLabel: "Change one thing" }, "The same clip, but", ...Object.entries(CHANGES).map(
        ([change, name]) => button(name, () => this.try(() => this.#change(change)))));
      part.viewer = element("div");
      part.formula = element("table", { className: "made" });
      const stages = [...this.querySelectorAll("cam-stage")];
      this.prepend(part.row = element("div", { className: "line" }, part.load, part.progress,
        part.bytes, part.cancel));
      this.append(...stages, part.sources, part.video, part.status, part.answers, part.changes,
        part.viewer, part.formula);
      const acted = location.hash.startsWith("#act=") ? "Load the network to see this movement." : "";
      part.status.textContent = missing() || acted;
      part.load.disabled = part.status.textContent !== acted;
    }

    /** Load the network; settles when it can be asked. */
    load() {
      if (this.loading) return this.loading;
      const { load, cancel, progress, bytes, status } = this.#parts;
      const folder = new URL(this.getAttribute("src"), location.href);
      this.#worker = new Worker(new URL("worker.js", folder), { type: "module" });
      load.hidden = true;
      progress.removeAttribute("value");
      progress.hidden = cancel.hidden = false;
      status.textContent = "";
      this.loading = new Promise((done, failed) => {
        this.#waiting.set("load", { done, failed });
        this.#worker.onerror = event => {
          event.preventDefault?.();
          this.#failed("The network could not be started in this browser.");
        };
        this.#worker.onmessage = ({ data }) => {
          if (data.total) {
            Object.assign(progress, { max: data.total, value: data.got });
            bytes.textContent =
              `${(data.got / 1e6).toFixed(1)} of ${(data.total / 1e6).toFixed(1)} MB`;
            if (data.got >= data.total) bytes.textContent += ", opening";
          } else if (data.ready) {
            this.record = data.ready;
            this.#parts.row.hidden = true;
            this.#parts.sources.hidden = false;
            this.toggleAttribute("ready", true);
            const on = data.ready.on === "gpu" ? ", on the GPU" : "";
            status.textContent = `The network is here${on}. Show it something.`;
            this.dispatchEvent(new CustomEvent(`${TAG}:ready`));
            done(data.ready);
          } else if (data.failed && data.id === undefined) {
            this.#failed(`The network could not be loaded: ${data.failed}.`);
          } else {
            const { done, failed } = this.#waiting.get(data.id);
            this.#waiting.delete(data.id);
            data.failed ? failed(new Error(data.failed)) : done(data);
          }
        };
        this.#worker.postMessage({ load: folder.href });
      });
      return this.loading;
    }

    #stop() {
      this.#worker?.terminate();
      this.#worker = this.loading = undefined;
      for (const { failed } of this.#waiting.values()) failed(new Error("it was stopped"));
      this.#waiting.clear();
      this.toggleAttribute("ready", false);
    }

    #failed(text) {
      this.#stop();
      const { load, cancel, progress, bytes, status, sources } = this.#parts;
      load.hidden = false;
      load.textContent = "Try again";
      progress.hidden = cancel.hidden = sources.hidden = true;
      bytes.textContent = "";
      status.textContent = text;
    }

    /** Does one thing at a time, and says in a `place` what went wrong. */
    async try(act, place = this.#parts.status) {
      if (this.ariaBusy) return;
      this.ariaBusy = "true";
      try {
        await act();
      } catch (error) {
        place.textContent = `That did not work: ${error.message ?? "no such video"}.`;
      }
      this.ariaBusy = null;
    }

    /** Asks about a clip { name, pixels }, as it is or changed. */
    async ask(clip, change) {
      const { name, pixels } = clip;
      await this.load();
      this.#parts.status.textContent = "The network looks …";
      const id = ++this.#asked;
      const answer = new Promise((done, failed) => this.#waiting.set(id, { done, failed }));
      const title = change ? `${name}, ${CHANGES[change]}` : name;
      this.#worker.postMessage({ id, name: title, pixels, change });
      return { ...await answer, title, clip, change };
    }

    /** Asks about a clip, and shows the answer; `beside` true: beside the one before, or else
     * beside that of another clip. */
    async explain(clip) {
      const answer = await this.ask(clip);
      const before = this.#answers.filter(({ change, clip: other }) =>
        !change && (clip.beside === true || clip.beside === other)).slice(-1);
      this.#show([...before, answer], answer);
    }

    async #change(change) {
      const answer = await this.ask(this.#chosen.clip, change);
      const before = this.#answers.find(({ clip, change }) => clip === this.#chosen.clip && !change);
      this.#show([before ?? this.#chosen, answer], answer);
    }

    #show(answers, chosen) {
      const { answers: place, status, changes } = this.#parts;
      this.#answers = answers;
      const { index, name } = answers[0].top[0]; // its evidence in all of them, in one unit
      const sums = answers.flatMap(({ ledger }) => ledger[index]);
      const [most, least] = [Math.max(0, ...sums), Math.min(0, ...sums)];
      const share = value => `${100 * value / (most - least || 1)}%`;
      place.replaceChildren(...answers.map(answer => {
        const bars = answer.top.slice(0, SHOWN).map(({ name, p }) =>
          element("span", { className: "bar" }, element("i", { style: `width: ${100 * p}%` }),
            element("span", { textContent: name }), element("span", { textContent: probability(p) })));
        const frames = answer.ledger[index].map(sum => element("i", { className: sum < 0 ? "less" : "",
          style: `top: ${share(most - Math.max(0, sum))}; height: ${share(Math.abs(sum))}` }));
        answer.card = button("", () => this.#choose(answer));
        answer.card.append(element("b", { textContent: answer.title }), ...bars,
          element("span", { className: "sums", ariaHidden: "true" }, ...frames),
          element("small", { textContent: `Each frame's evidence for ${name}` }));
        return answer.card;
      }));
      changes.hidden = false;
      this.#choose(chosen);
      const [first, second] = chosen.top;
      status.textContent = `${chosen.title}: ${first.name}, ${probability(first.p)}; then ` +
        `${second.name}, ${probability(second.p)}. ${chosen.seconds.toFixed(1)} seconds.`;
      this.dispatchEvent(new CustomEvent(`${TAG}:answer`, { bubbles: true, detail: chosen }));
    }

    /** Shows an answer in the viewer. */
    #choose(answer) {
      this.#chosen = answer; // the viewer is made when the answer has been painted
      this.#parts.formula.replaceChildren();
      for (const { card } of this.#answers) {
        card.setAttribute("aria-pressed", String(card === answer.card));
      }
      const viewer = document.createElement("cam-viewer");
      viewer.setAttribute("class-index", answer.top[0].index);
      viewer.setAttribute("frame", answer.frame);
      viewer.append(element("img", { src: answer.sheet, alt: "All frames of the clip" }),
        element("script", { type: "application/json", textContent: answer.json }));
      new MutationObserver(() => this.#explainCell(viewer, answer)).observe(viewer, {
        attributeFilter: ["cell", "frame", "class-index", "versus-index", "ready"] });
      setTimeout(() => {
        if (this.#chosen === answer) this.#parts.viewer.replaceChildren(viewer);
      });
    }

    /** What a cell is made of, its strongest channels: weight times activation. All of them add up
     * to its evidence. The cell under the finger, or that was last; at first that with the most. */
    #explainCell(viewer, { activations, weight, title }) {
      const { classIndex, versusIndex, frame, cell } = viewer;
      const { shape: [steps, rows, columns], frames, viewer: { classes } } = this.record;
      const places = steps * rows * columns, channels = activations.length / places;
      const first = Math.floor((frame + 0.5) * steps / frames) * rows * columns;
      const at = ([row, column]) => Array.from({ length: channels }, (_, channel) => {
        const [w, less] = [classIndex, versusIndex ?? -1].map(k => weight[k * channels + channel] ?? 0);
        const a = activations[channel * places + first + row * columns + column];
        return { channel, w: w - less, a, term: (w - less) * a / places };
      });
      const total = terms => terms.reduce((all, { term }) => all + term, 0);
      const all = Array.from({ length: rows * columns }, (_, i) => [Math.floor(i / columns), i % columns]);
      const [row, column] = this.#cell = cell ?? this.#cell ??
        all.reduce((most, next) => total(at(next)) > total(at(most)) ? next : most);
      const terms = at(this.#cell).sort((one, next) => Math.abs(next.term) - Math.abs(one.term));
      const { formula } = this.#parts;
      formula.innerHTML = "<caption></caption><tr>" + ["channel", "weight w", "activation A",
        `w · A ÷ ${places}`].map(name => `<th scope="col">${name}`).join("") + [
        ...terms.slice(0, SHOWN).map(({ channel, w, a, term }) =>
          [channel + 1, signed(w), a.toFixed(4), signed(term)]),
        ["these five", "", "", signed(total(terms.slice(0, SHOWN)))], [`all ${channels}`, "", "", signed(total(terms))],
      ].map(line => `<tr><th scope="row">${line.join("<td>")}`).join("");
      formula.caption.textContent = `What cell (${row + 1}, ${column + 1}) is made of in frame ` +
        `${frame + 1} of ${title}: evidence for ${classes[classIndex]}` +
        (versusIndex === null ? "" : ` less that for ${classes[versusIndex]}`) +
        ". Point at another cell, or choose it on the clip with Shift and the arrow keys.";
    }

    /** A canvas as large as a frame, and what makes clips of what is drawn on it. */
    #canvas() {
      const { size, frames } = this.record;
      const canvas = element("canvas", { width: size, height: size });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      const pixels = new Uint8ClampedArray(frames * size * size * 4);
      const keep = frame =>
        pixels.set(context.getImageData(0, 0, size, size).data, frame * size * size * 4);
      return { context, size, frames, pixels, keep };
    }

    async #fromSheet(picture) {
      await picture.decode();
      const { context, size, frames, pixels, keep } = this.#canvas();
      const columns = Math.ceil(Math.sqrt(frames));
      const side = picture.naturalWidth / columns;
      for (let frame = 0; frame < frames; frame++) {
        context.drawImage(picture, frame % columns * side, Math.floor(frame / columns) * side,
          side, side, 0, 0, size, size);
        keep(frame);
      }
      await this.explain({ name: picture.dataset.clip, pixels });
    }

    /** The middle square of what a video shows. */
    #grab(video, { context, size, keep }, frame) {
      const { videoWidth: width, videoHeight: height } = video;
      const side = Math.min(width, height);
      context.drawImage(video, (width - side) / 2, (height - side) / 2, side, side, 0, 0, size, size);
      keep(frame);
    }

    async #fromFile(file) {
      const { status } = this.#parts;
      const video = element("video", { muted: true, playsInline: true, preload: "auto" });
      const address = URL.createObjectURL(file);
      try {
        status.textContent = "Reading the video …";
        const opened = once(video, "loadeddata");
        video.src = address;
        await opened.catch(() => { throw new Error("this browser cannot read the file"); });
        const seek = async time => {
          const there = once(video, "seeked");
          video.currentTime = time;
          await there;
        };
        if (video.duration === Infinity) await seek(1e7); // a browser's own recordings tell no length
        const canvas = this.#canvas();
        const length = canvas.frames / this.record.fps;
        const spare = Math.max(0, (video.duration || 0) - length) / 2; // the middle of a longer one
        for (let frame = 0; frame < canvas.frames; frame++) {
          const time = Math.min(spare + frame / this.record.fps, Math.max(0, video.duration - 0.05));
          if (Math.abs(video.currentTime - time) > 1e-3) await seek(time);
          this.#grab(video, canvas, frame);
        }
        await this.explain({ name: file.name, pixels: canvas.pixels });
      } finally {
        video.removeAttribute("src");
        URL.revokeObjectURL(address);
      }
    }

    async countDown(place) {
      for (const count of ["Three", "Two", "One"]) {
        place.textContent = `${count} …`;
        await pause(1);
      }
    }

    /** Four seconds of a camera, after three to get ready. */
    async #film() {
      const { video, status } = this.#parts;
      const camera = await navigator.mediaDevices.getUserMedia({ video: true }).catch(() => {
        throw new Error("no camera was allowed, or there is none");
      });
      try {
        video.srcObject = camera;
        video.hidden = false;
        await video.play();
        await this.countDown(status);
        status.textContent = "Four seconds, now.";
        const canvas = this.#canvas();
        for (let frame = 0; frame < canvas.frames; frame++) {
          this.#grab(video, canvas, frame);
          await pause(1 / this.record.fps);
        }
        await this.explain({ name: "your camera", pixels: canvas.pixels });
      } finally {
        camera.getTracks().forEach(track => track.stop());
        video.srcObject = null;
        video.hidden = true;
      }
    }
  }

  define(TAG, CamLive, STYLE);
})();
