// <cam-viewer>: a clip with the network's evidence on every frame. Printed by lib/viewer.py.
//
// The state of a viewer is its attributes and nothing else: frame, mode, class-index, versus-index,
// opacity, scale, truth, playing, cell ("row,column", which the pointer sets). Its controls set them, a page or a test may set them (each is a
// property, too), and every change draws the viewer anew.
(() => {
  const TAG = "cam-viewer";
  if (customElements.get(TAG)) return; // every output prints this script; the first one counts

  const MODES = ["original", "overlay", "heatmap"];
  const STAGE_SIZE = 384; // least pixels on the longest side of the stage, for sharp colours

  // The page decides between light and dark; an element cannot see that from inside its shadow.
  // The last rule takes back the light card that the book's theme puts behind outputs in the dark.
  const PAGE_STYLE = `
    cam-viewer { color-scheme: light dark; }
    html[data-theme=light] cam-viewer, [data-jp-theme-light=true] cam-viewer,
    body.vscode-light cam-viewer { color-scheme: light; }
    html[data-theme=dark] cam-viewer, [data-jp-theme-light=false] cam-viewer,
    body.vscode-dark cam-viewer { color-scheme: dark; }
    .text_html:has(cam-viewer[ready]) { background: none !important; padding: 0 !important; }`;

  const STYLE = `
    :host {
      --card: light-dark(#fcfcfb, #17181c); --ink: light-dark(#1d1e22, #ececf0);
      --muted: light-dark(#5a5d66, #a5a9b4); --line: light-dark(#d5d6da, #3b3e47);
      --well: light-dark(#eff0f1, #22242a); --accent: light-dark(#0a5ea8, #80bfff);
      --for: light-dark(#c2410c, #fb923c); --against: light-dark(#47658f, #8fb1e0);
      --right: light-dark(#17692f, #7fd694); --wrong: light-dark(#b3261e, #ffa198);
      display: block; container-type: inline-size; max-width: 43rem; margin: .5rem 0;
      color: var(--ink); font: 400 .875rem/1.45 system-ui, sans-serif; text-align: start;
    }
    * { box-sizing: border-box; }
    .card { display: grid; gap: .9rem 1.25rem; padding: .75rem; background: var(--card);
      border: 1px solid var(--line); border-radius: 10px; }
    @container (min-width: 36rem) {
      .card { grid-template-columns: minmax(0, 20rem) minmax(0, 1fr); }
    }
    .clip { width: 100%; max-width: 20rem; justify-self: center; }
    .panel { display: flex; flex-direction: column; gap: .7rem; min-width: 0; }
    .stage { border-radius: 6px; overflow: hidden; background: var(--well); }
    .stage canvas { display: block; width: 100%; }
    :host(:not([mode=original])) .stage { cursor: crosshair; }
    :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

    .ledger { display: flex; height: 3.25rem; margin-top: .5rem; cursor: pointer;
      touch-action: pan-y; }
    .ledger span { position: relative; flex: 1; border-radius: 3px; }
    .ledger span:hover { background: var(--well); }
    .ledger .now { background: light-dark(#dfe1e5, #343842); }
    .ledger i { position: absolute; inset-inline: 14%; min-height: 1px; background: var(--for);
      border-radius: 1.5px 1.5px 0 0; }
    .ledger .against i { background: var(--against); border-radius: 0 0 1.5px 1.5px; }
    /* Above the bars: how much of what the cell sees lies in these frames. */
    .ledger [data-seen]::after { content: ""; position: absolute; inset: -.3rem 1px auto;
      height: 3px; background: var(--accent); }
    .ledger [data-seen=core]::after { opacity: .5; }
    .ledger [data-seen=field]::after { opacity: .5; height: 1px; }
    /* The thumb travels from the middle of the first bar to the middle of the last one. */
    .frame { appearance: none; display: block; height: 1.25rem; background: none; cursor: pointer;
      width: calc(100% - 100% / var(--frames) + 1rem); border-radius: 6px;
      margin: .1rem calc(50% / var(--frames) - .5rem); }
    .frame::-webkit-slider-runnable-track { height: 3px; border-radius: 2px;
      background: var(--line); }
    .frame::-moz-range-track { height: 3px; border-radius: 2px; background: var(--line); }
    .frame::-webkit-slider-thumb { appearance: none; width: 1rem; height: 1rem; margin-top: -6.5px;
      border: 2px solid var(--card); border-radius: 50%; background: var(--accent); }
    .frame::-moz-range-thumb { width: .75rem; height: .75rem; border: 2px solid var(--card);
      border-radius: 50%; background: var(--accent); }

    .row { display: flex; flex-wrap: wrap; align-items: center; gap: .35rem .7rem; }
    button, select, input, output { font: inherit; color: inherit; }
    button, select { border: 1px solid var(--line); border-radius: 6px; background: var(--well);
      padding: .25rem .6rem; cursor: pointer; }
    button:hover, select:hover { border-color: var(--accent); }
    .transport { display: flex; align-items: center; gap: .6rem; }
    .status { font-size: .8rem; line-height: 1.25; height: 2.5em; white-space: pre-line;
      flex: 1; overflow: hidden; align-content: center; } /* two lines of it fit beside the button */
    @container (max-width: 21rem) { .status { font-size: .68rem; } }
    .play { flex: none; width: 5.4rem; padding-inline: 0; }
    output { color: var(--muted); font-variant-numeric: tabular-nums; }
    input[type=range]:not(.frame) { accent-color: var(--accent); flex: 1; min-width: 6rem; }
    .row label { display: inline-flex; align-items: center; }
    input[type=checkbox] { accent-color: var(--accent); margin: 0 .4rem 0 0; }
    [hidden] { display: none !important; }

    .caption { display: grid; grid-template-columns: auto 1fr auto; gap: .2rem .6rem; margin: 0;
      align-items: start; }
    .caption div { display: contents; }
    .caption dt { color: var(--muted); }
    .caption dd { margin: 0; overflow-wrap: anywhere; }
    .caption dd:nth-of-type(2) { text-align: end; white-space: nowrap;
      font-variant-numeric: tabular-nums; }
    .caption button { padding: 0; border: 0; border-radius: 2px; background: none;
      text-align: start; text-decoration: underline; text-decoration-color: var(--muted);
      text-underline-offset: .2em; }
    .caption button:hover, .caption button[aria-pressed=true] { color: var(--accent);
      text-decoration-color: currentColor; }
    .right { color: var(--right); } .wrong { color: var(--wrong); }

    .field { display: grid; gap: .2rem; }
    .field select { width: 100%; }
    .name, legend { color: var(--muted); padding: 0; }
    .sum { margin: .4rem 0 0; font-variant-numeric: tabular-nums; }
    .modes { display: flex; margin: 0; padding: 0; border: 1px solid var(--line);
      border-radius: 6px; background: var(--well); }
    .modes label { flex: 1; }
    .modes input { position: absolute; opacity: 0; }
    .modes span { display: block; padding: .25rem .3rem; border-radius: 5px; text-align: center;
      cursor: pointer; }
    .modes span:hover { color: var(--accent); }
    .modes :checked + span { background: var(--accent); color: var(--card); }
    .modes :focus-visible + span { outline: 2px solid var(--accent); outline-offset: 2px; }
    .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
      clip-path: inset(50%); }
    .legend { display: grid; grid-template-columns: auto 1fr auto; gap: 0 .5rem;
      align-items: center; font-variant-numeric: tabular-nums; }
    .ramp { height: .7rem; border-radius: 3px; }
    .source { margin: 0; color: var(--muted); font-size: .8rem; }
    slot { display: none; }
    @media print { .card { display: none; } slot { display: block; } }`;

  const TEMPLATE = `
    <div class="card" role="group" aria-label="A clip and the network's evidence">
      <div class="clip">
        <div class="stage" tabindex="0" role="group"
          aria-label="Clip: left and right arrow change the frame, space plays and pauses">
          <canvas role="img"></canvas>
        </div>
        <div class="ledger" role="img"></div>
        <input class="frame" type="range" min="0" step="1" aria-label="Frame">
        <div class="transport"><button class="play" type="button"></button>
          <output class="status"></output></div>
        <p class="sum"></p>
      </div>
      <div class="panel">
        <dl class="caption"></dl>
        <label class="field"><span class="name">Evidence for</span>
          <select class="class"></select></label>
        <label class="field"><span class="name">less the evidence for</span>
          <select class="versus"><option value="">nothing</option></select></label>
        <fieldset class="modes"><legend class="unseen">View</legend>${MODES.map(mode =>
          `<label><input type="radio" name="mode" value="${mode}"><span>${mode}</span></label>`,
        ).join("")}</fieldset>
        <label class="row"><span class="name">Opacity</span>
          <input class="opacity" type="range" min="0" max="1" step="0.05"></label>
        <div class="legend"><span>0</span><div class="ramp"></div><span class="most"></span>
          <span></span><span class="name">evidence of one cell, in logits</span></div>
        <div class="row">
          <label><input class="scale" type="checkbox">one scale for all classes</label>
          <label class="truth-field"><input class="truth" type="checkbox">outline the truth</label>
        </div>
        <p class="source"></p>
      </div>
    </div>
    <slot></slot>`;

  const bytes = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));
  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
  const element = (name, properties) => Object.assign(document.createElement(name), properties);
  const probability = value => value.toFixed(2).replace(/^0/, "");
  const decimals = (value, digits = 3) => value.toFixed(digits).replace("-", "−");
  const signed = (value, digits) => (value < 0 ? "" : "+") + decimals(value, digits);

  /** For each of `length` pixels, the two cells it lies between and the weight of the second. */
  const between = (centres, length) => {
    const [first, second, weight] = [Uint16Array, Uint16Array, Float32Array].map(
      Kind => new Kind(length),
    );
    for (let pixel = 0, cell = 0; pixel < length; pixel++) {
      const place = (pixel + 0.5) / length;
      while (cell < centres.length - 2 && centres[cell + 1] <= place) cell++;
      first[pixel] = cell;
      second[pixel] = Math.min(cell + 1, centres.length - 1);
      const pitch = centres[second[pixel]] - centres[cell];
      weight[pixel] = pitch ? clamp((place - centres[cell]) / pitch, 0, 1) : 0;
    }
    return { first, second, weight, cells: centres.length, length };
  };

  /** Cells (h, w) to pixels (H, W): bilinear between the centres, constant beyond the outermost. */
  const interpolate = (cells, y, x) => {
    const pixels = new Float32Array(y.length * x.length);
    for (let row = 0, pixel = 0; row < y.length; row++) {
      const above = y.first[row] * x.cells;
      const below = y.second[row] * x.cells;
      for (let column = 0; column < x.length; column++) {
        const [left, right, weight] = [x.first[column], x.second[column], x.weight[column]];
        const top = cells[above + left] + weight * (cells[above + right] - cells[above + left]);
        const base = cells[below + left] + weight * (cells[below + right] - cells[below + left]);
        pixels[pixel++] = top + y.weight[row] * (base - top);
      }
    }
    return pixels;
  };

  /** Centres of `count` equal cells that fill the picture from edge to edge. */
  const evenly = count => Array.from({ length: count }, (_, cell) => (cell + 0.5) / count);

  /** np.unpackbits */
  const unpackBits = packed => {
    const bits = new Uint8Array(packed.length * 8);
    return bits.map((_, bit) => (packed[bit >> 3] >> (7 - (bit & 7))) & 1);
  };

  /** What lies around a centre, `before` and `after` it, of everything from 0 to 1. */
  const around = (centre, [before, after]) =>
    [clamp(centre - before, 0, 1), clamp(centre + after, 0, 1)];

  /** The one of all centres that is nearest. */
  const nearest = (centres, place) => {
    const distances = Array.from(centres, centre => Math.abs(centre - place));
    return distances.indexOf(Math.min(...distances));
  };

  /** From half way to the neighbour on one side to half way to that on the other. */
  const cellSpan = (centres, cell) => [-1, 1].map(side => {
    const neighbour = centres[cell + side];
    return neighbour === undefined ? Number(side > 0) : clamp((centres[cell] + neighbour) / 2, 0, 1);
  });

  /** First and last of `count` equal parts that a span of 0 to 1 covers, to the nearest one. */
  const covered = ([start, end], count) => {
    const middle = Math.floor((start + end) / 2 * count);
    return [Math.min(middle, Math.round(start * count)),
      Math.max(middle, Math.round(end * count) - 1)];
  };

  /** Time from one frame to the next in milliseconds, without the frames that are only held. */
  const pace = times => {
    const steps = times.slice(1).map((time, frame) => time - times[frame]).filter(step => step > 0);
    return steps.length ? 1000 * steps.sort((a, b) => a - b)[steps.length >> 1] : 250;
  };

  class CamViewer extends HTMLElement {
    static observedAttributes = [
      "frame", "mode", "class-index", "versus-index", "opacity", "scale", "truth", "playing",
      "cell",
    ];
    #data; // as printed by lib/viewer.py
    #sheet; // all frames, one ImageBitmap
    #parts; // the elements of the shadow tree, by class
    #layer = document.createElement("canvas"); // what is laid over the frame
    #signed; // the evidence of the selected class (T, h, w)
    #evidence; // what of it is drawn, 0 to 1 over the clip
    #unit; // "of the logit" where cells add up to it
    #sums; // its ledger (T,)
    #timer;

    get frame() {
      return clamp(Math.round(Number(this.getAttribute("frame"))) || 0, 0, this.frames - 1);
    }
    set frame(index) { this.setAttribute("frame", index); }
    get frames() { return this.#data?.sheet.frames ?? 1; }
    get mode() {
      const mode = this.getAttribute("mode");
      return MODES.includes(mode) ? mode : "overlay";
    }
    set mode(name) { this.setAttribute("mode", name); }
    get classIndex() {
      const index = Number(this.getAttribute("class-index"));
      return this.#data?.mapped.includes(index) === false ? this.#data.mapped[0] : index;
    }
    set classIndex(index) { this.setAttribute("class-index", index); }
    /** The class whose evidence is taken away, or null. */
    get versusIndex() {
      const index = this.getAttribute("versus-index") || null;
      const other = index === null ? null : Number(index);
      return other !== this.classIndex && this.#data?.mapped.includes(other) ? other : null;
    }
    set versusIndex(index) {
      if (index === null || index === "") this.removeAttribute("versus-index");
      else this.setAttribute("versus-index", index);
    }
    get opacity() { return clamp(Number(this.getAttribute("opacity") ?? 0.65) || 0, 0, 1); }
    set opacity(value) { this.setAttribute("opacity", value); }
    get scale() { return this.getAttribute("scale") === "all" ? "all" : "class"; }
    set scale(name) { this.setAttribute("scale", name); }
    get truth() { return this.hasAttribute("truth"); }
    set truth(on) { this.toggleAttribute("truth", on); }
    /** [row, column] of the cell whose footprint is shown, or null. */
    get cell() {
      const cell = /^(\d+),(\d+)$/.exec(this.getAttribute("cell"))?.slice(1).map(Number);
      const [, , rows, columns] = this.#data?.maps.shape ?? [];
      return this.mode !== "original" && cell?.[0] < rows && cell[1] < columns ? cell : null;
    }
    set cell(place) {
      if (place) this.setAttribute("cell", place);
      else this.removeAttribute("cell");
    }
    get playing() { return this.hasAttribute("playing"); }
    set playing(on) { this.toggleAttribute("playing", on); }

    focus(options) { this.#parts?.stage.focus(options); }

    connectedCallback() {
      if (this.#data) return this.#keepTime(); // moved to another place
      // The parser may not have read the children of this element yet.
      if (this.#payload || document.readyState !== "loading") queueMicrotask(() => this.#start());
      else document.addEventListener("DOMContentLoaded", () => this.#start(), { once: true });
    }

    disconnectedCallback() { clearInterval(this.#timer); }

    attributeChangedCallback(name, before, after) {
      if (!this.#data || before === after) return;
      if (["class-index", "versus-index", "scale"].includes(name)) this.#showClass();
      if (name === "playing") this.#keepTime();
      this.#draw();
    }

    get #payload() { return this.querySelector(":scope > script[type='application/json']"); }

    /** The contact sheet stays in sight until all is ready, and for good if something is wrong. */
    async #start() {
      if (!this.#payload || this.shadowRoot) return;
      const data = JSON.parse(this.#payload.textContent);
      const picture = this.querySelector(":scope > img");
      await picture.decode();
      this.#sheet = await createImageBitmap(picture);
      if (this.shadowRoot) return;
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.playing = false;
      this.#prepare(data);
      this.#build();
      this.#showClass();
      this.#keepTime();
      this.#draw();
      this.toggleAttribute("ready", true);
    }

    /** Unpacks the data, and finds for every pixel of the stage the cells it lies between. */
    #prepare(data) {
      const { sheet, cells, mask } = data;
      const zoom = Math.max(1, STAGE_SIZE / Math.max(sheet.width, sheet.height));
      const [width, height] = [sheet.width, sheet.height].map(side => Math.round(side * zoom));
      Object.assign(this.#layer, { width, height });
      data.maps.values = new Int16Array(bytes(data.maps.values).buffer);
      data.colours = bytes(data.colours);
      data.grid = { y: between(cells.y, height), x: between(cells.x, width) };
      if (mask) {
        mask.bits = unpackBits(bytes(mask.bits));
        mask.grid = {
          y: between(evenly(mask.shape[1]), height), x: between(evenly(mask.shape[2]), width),
        };
      }
      this.#data = data;
    }

    #build() {
      const data = this.#data;
      const root = this.attachShadow({ mode: "open" });
      root.innerHTML = `<style>${STYLE}</style>${TEMPLATE}`;
      this.#parts = Object.fromEntries(
        [...root.querySelectorAll("[class]")].map(part => [part.classList[0], part]),
      );
      const { stage, frame, ramp, source, ...others } = this.#parts;
      const { width, height } = this.#layer;
      Object.assign(stage.firstElementChild, { width, height });
      frame.max = data.sheet.frames - 1;
      frame.style.setProperty("--frames", data.sheet.frames);
      others["truth-field"].hidden = !data.mask;
      const stops = Array.from({ length: 18 }, (_, i) => data.colours.slice(45 * i, 45 * i + 3));
      ramp.style.background = `linear-gradient(90deg, ${stops.map(rgb => `rgb(${rgb})`)})`;
      const [, steps, rows, columns] = data.maps.shape;
      source.textContent =
        `${data.method} at layer ${data.layer}, ${steps} × ${rows} × ${columns} cells` +
        (data.footprint ? `; ${data.footprint.text}` : "");
      this.#buildClasses();
      this.#buildLedger(steps);
      this.#listen(root);
    }

    /** The caption of the article (truth and two guesses), and all classes to choose from. */
    #buildClasses() {
      const { classes, probabilities, mapped, label } = this.#data;
      const { caption, class: select, versus } = this.#parts;
      const ranking = [...classes.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
      const add = (term, index, note) => {
        const row = caption.appendChild(document.createElement("div"));
        row.append(element("dt", { textContent: term }), document.createElement("dd"), note);
        row.children[1].append(element(mapped.includes(index) ? "button" : "span", {
          type: "button", value: index, textContent: classes[index],
        }));
      };
      if (label !== null) add("true", label, document.createElement("dd"));
      ranking.slice(0, 2).forEach((index, place) => {
        const note = element("dd", { textContent: probability(probabilities[index]) });
        if (index === label) {
          note.append(element("span", { className: "right", textContent: " ✓ right" }));
        } else if (label !== null && place === 0) {
          note.append(element("span", { className: "wrong", textContent: " ✗ wrong" }));
        }
        add(["1st", "2nd"][place], index, note);
      });
      for (const index of ranking.filter(index => mapped.includes(index))) {
        const textContent = `${probability(probabilities[index])}  ${classes[index]}`;
        for (const menu of [select, versus]) {
          menu.append(element("option", { value: index, textContent }));
        }
      }
      versus.parentElement.hidden = mapped.length < 2;
    }

    #buildLedger(steps) {
      for (let step = 0; step < steps; step++) {
        this.#parts.ledger.appendChild(document.createElement("span")).append(element("i"));
      }
    }

    #listen(root) {
      const { stage, ledger, play, caption } = this.#parts;
      this.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's, on the same keys
      root.addEventListener("keydown", event => this.#onKey(event));
      root.addEventListener("input", ({ target }) => this.#onInput(target));
      play.addEventListener("click", () => { this.playing = !this.playing; });
      caption.addEventListener("click", ({ target }) => {
        if (target.localName === "button") this.classIndex = target.value;
      });
      // A pointer that hovers shows the cell below it; a finger taps, and taps again to be rid of it.
      stage.addEventListener("pointermove", event => {
        if (event.pointerType !== "touch") this.cell = this.#cellAt(event);
      });
      stage.addEventListener("pointerup", event => {
        if (event.pointerType !== "touch") return;
        const cell = this.#cellAt(event);
        this.cell = `${cell}` === this.getAttribute("cell") ? null : cell;
      });
      stage.addEventListener("pointerleave", event => {
        if (event.pointerType !== "touch") this.cell = null;
      });
      stage.addEventListener("blur", () => { this.cell = null; });
      const scrub = event => {
        const { left, width } = ledger.getBoundingClientRect();
        this.#go(Math.floor(this.frames * (event.clientX - left) / width));
      };
      ledger.addEventListener("pointerdown", scrub);
      ledger.addEventListener("pointermove", event => { if (event.buttons) scrub(event); });
    }

    #cellAt({ clientX, clientY }) {
      const { left, top, width, height } = this.#parts.stage.getBoundingClientRect();
      const { y, x } = this.#data.cells;
      return [nearest(y, (clientY - top) / height), nearest(x, (clientX - left) / width)];
    }

    #onInput({ className, type, name, value, checked }) {
      if (className === "frame") this.#go(Number(value));
      else if (className === "class") this.classIndex = value;
      else if (className === "versus") this.versusIndex = value;
      else if (className === "opacity") this.opacity = value;
      else if (className === "scale") this.scale = checked ? "all" : "class";
      else if (className === "truth") this.truth = checked;
      else if (type === "radio" && name === "mode") this.mode = value;
    }

    #onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key !== "Tab") event.stopPropagation(); // books turn the page on an arrow key
      const ownsArrows = event.target.matches("input, select");
      const ownsSpace = event.target.matches("button, select, input:not([type=range])");
      const goal = {
        ArrowLeft: this.frame - 1, ArrowRight: this.frame + 1, Home: 0, End: this.frames - 1,
      }[event.key];
      if (goal !== undefined && !ownsArrows) this.#go(goal);
      else if (event.key === " " && !ownsSpace) this.playing = !this.playing;
      else return;
      event.preventDefault();
    }

    /** To a frame, by hand: that ends playing. */
    #go(frame) {
      this.playing = false;
      this.frame = clamp(frame, 0, this.frames - 1);
    }

    #keepTime() {
      clearInterval(this.#timer);
      if (!this.playing || !this.isConnected) return;
      const next = () => { this.frame = (this.frame + 1) % this.frames; };
      this.#timer = setInterval(next, pace(this.#data.times));
    }

    /** The step of the maps nearest in time to the current frame. */
    get #step() { return Math.floor((this.frame + 0.5) * this.#data.maps.shape[1] / this.frames); }

    /** Everything that hangs on the class: evidence and its scale, the ledger and its sum. */
    #showClass() {
      const { mapped, maps, ledger, bias, logits } = this.#data;
      const [chosen, other] = [this.classIndex, this.versusIndex];
      const [row, less] = [mapped.indexOf(chosen), mapped.indexOf(other)];
      const [, steps, height, width] = maps.shape;
      const size = steps * height * width;
      const integers = index => maps.values.subarray(index * size, (index + 1) * size);
      const signedMap = index => Float32Array.from(integers(index), v => v * maps.scales[index]);
      const largest = values => values.reduce((peak, value) => Math.max(peak, value), 0);
      const evidence = this.#signed = signedMap(row);
      if (other !== null) signedMap(less).forEach((value, cell) => { evidence[cell] -= value; });
      const greatest = this.scale === "all" && other === null
        ? Math.max(...maps.scales.map((scale, index) => scale * largest(integers(index))))
        : largest(evidence);
      const unit = greatest > 0 ? 1 / greatest : 0;
      this.#evidence = evidence.map(value => Math.min(1, Math.max(0, value) * unit));
      this.#parts.most.textContent = greatest > 0 ? greatest.toPrecision(2) : "0";
      this.#sums = ledger[row].map((sum, step) => sum - (other === null ? 0 : ledger[less][step]));
      this.#showLedger(this.#sums);

      const apart = values => values[chosen] - (other === null ? 0 : values[other]);
      const [logit, sum] = [apart(logits), this.#sums.reduce((a, b) => a + b, 0)];
      const offset = bias && apart(bias);
      const [offsetName, name] = other === null
        ? ["bias", "logit"] : ["difference of biases", "lead in logits"];
      // Only average pooling and a linear head above the layer make the books balance.
      const balanced = bias && Math.abs(sum + offset - logit) < 1e-3 * Math.max(1, Math.abs(logit));
      this.#unit = balanced ? ` of the ${other === null ? "logit" : "lead"}` : "";
      this.#parts.sum.textContent = balanced
        ? `Σ bars ${decimals(sum)} + ${offsetName} ${decimals(offset)} = ${name} ${decimals(logit)}`
        : `Σ bars ${decimals(sum)}, ${name} ${decimals(logit)} (equal only at the last layer)`;
      for (const button of this.#parts.caption.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", Number(button.value) === chosen);
      }
      this.#parts.class.value = chosen;
      this.#parts.versus.value = other ?? "";
      this.#parts.scale.disabled = other !== null;
      this.#parts.ledger.setAttribute("aria-label", `Evidence for ${this.#subject} in ` +
        `each frame: ${this.#sums.map(sum => signed(sum)).join(", ")}`);
    }

    /** What the evidence is for, in words. */
    get #subject() {
      const { classes } = this.#data;
      const less = this.versusIndex === null ? "" : ` and not ${classes[this.versusIndex]}`;
      return classes[this.classIndex] + less;
    }

    /** Bars up for evidence, down against it, all in one unit. */
    #showLedger(sums) {
      const [top, bottom] = [Math.max(0, ...sums), Math.min(0, ...sums)];
      const percent = value => `${100 * value / (top - bottom || 1)}%`;
      [...this.#parts.ledger.children].forEach((bar, step) => {
        const sum = sums[step];
        bar.classList.toggle("against", sum < 0);
        bar.title = `${signed(sum)} in step ${step + 1} of ${sums.length}`;
        bar.firstChild.style.top = percent(top - Math.max(0, sum));
        bar.firstChild.style.height = percent(Math.abs(sum));
      });
    }

    #draw() {
      this.#drawStage();
      const { frame, mode, playing } = this;
      const { stage, play, ledger, modes, opacity, status, truth, ...others } = this.#parts;
      const { times } = this.#data;
      const sum = this.#sums[this.#step];
      const place = `frame ${frame + 1} of ${this.frames}`;
      stage.firstElementChild.setAttribute("aria-label", `${place}, ${mode}` +
        (mode === "original" ? "" : `: evidence for ${this.#subject}`));
      play.textContent = playing ? "❚❚ Pause" : "▶ Play";
      status.value = this.cell ? this.#cellText() :
        `${frame + 1}/${this.frames} · ${times[frame].toFixed(2)} s · evidence ${signed(sum, 2)}`;
      others.frame.value = frame;
      others.frame.setAttribute("aria-valuetext", `${place}, evidence ${signed(sum)}`);
      [...ledger.children].forEach((bar, step) => bar.classList.toggle("now", step === this.#step));
      this.#markReach();
      modes.querySelector(`[value=${mode}]`).checked = true;
      opacity.value = this.opacity;
      opacity.disabled = mode !== "overlay";
      others.scale.checked = this.scale === "all";
      truth.checked = this.truth;
    }

    /** The middle of the current step, as a fraction of the clip. */
    get #now() { return (this.#step + 0.5) / this.#data.maps.shape[1]; }

    /** The evidence of the cell, and where most of what it sees lies, in two short lines. */
    #cellText() {
      const { maps: { shape: [, , rows, columns] }, footprint } = this.#data;
      const [row, column] = this.cell;
      const value = this.#signed[(this.#step * rows + row) * columns + column];
      const text = `cell (${row + 1}, ${column + 1}): ${value < 0 ? "−" : value > 0 ? "+" : ""}` +
        `${Number(Math.abs(value).toPrecision(2))}${this.#unit}`;
      if (!footprint) return text;
      const [first, last] = covered(around(this.#now, footprint.core.t), this.frames)
        .map(frame => frame + 1);
      const frames = first === last ? `frame ${first}` : `frames ${first}–${last}`;
      return `${text}\nhalf: box; 90%: ${frames}`;
    }

    /** Marks the steps of the ledger that the cell sees: half, the core, or the field. */
    #markReach() {
      const { footprint, maps: { shape: [, steps] } } = this.#data;
      for (const bar of this.#parts.ledger.children) bar.removeAttribute("data-seen");
      if (!this.cell || !footprint) return;
      for (const extent of ["field", "core", "half"]) {
        const [first, last] = covered(around(this.#now, footprint[extent].t), steps);
        for (let step = first; step <= last; step++) {
          this.#parts.ledger.children[step].dataset.seen = extent;
        }
      }
    }

    #drawStage() {
      const { sheet, mask } = this.#data;
      const { width, height } = this.#layer;
      const stage = this.#parts.stage.firstElementChild.getContext("2d");
      const layer = this.#layer.getContext("2d");
      const [column, row] = [this.frame % sheet.columns, Math.floor(this.frame / sheet.columns)];
      stage.drawImage(this.#sheet, column * sheet.width, row * sheet.height, sheet.width,
        sheet.height, 0, 0, width, height);
      const lay = paint => {
        const picture = layer.createImageData(width, height);
        paint(picture.data);
        layer.putImageData(picture, 0, 0);
        stage.drawImage(this.#layer, 0, 0);
      };
      if (this.mode !== "original") lay(pixels => this.#paintEvidence(pixels));
      if (this.truth && mask) lay(pixels => this.#paintTruth(pixels));
      if (this.cell) this.#paintFootprint(stage);
    }

    /** The cell, the half of what it sees, and thinner 90% and all of it where not the whole frame. */
    #paintFootprint(stage) {
      const { cells, footprint } = this.#data;
      const { width, height } = this.#layer;
      const [row, column] = this.cell;
      const outline = ([top, bottom], [left, right], colour, line, dash = []) => {
        const rim = line / 2 + 1; // kept inside the frame
        const box = [left * width + rim, top * height + rim,
          (right - left) * width - 2 * rim, (bottom - top) * height - 2 * rim];
        stage.setLineDash(dash);
        for (const [style, thickness] of [["rgb(0 0 0 / 0.6)", line + 2], [colour, line]]) {
          Object.assign(stage, { strokeStyle: style, lineWidth: thickness });
          stage.strokeRect(...box);
        }
      };
      outline(cellSpan(cells.y, row), cellSpan(cells.x, column), "white", 1.5);
      for (const [extent, line, dash] of [["field", 1, [2, 4]], ["core", 1.5, [7, 4]],
        ["half", 2.5, []]]) {
        if (!footprint) break;
        const { y, x } = footprint[extent];
        const [down, across] = [around(cells.y[row], y), around(cells.x[column], x)];
        const whole = `${[...down, ...across]}` === "0,1,0,1";
        if (!whole || extent === "half") outline(down, across, "#6ff3ff", line, dash);
      }
      stage.setLineDash([]);
    }

    /** Colour shows the evidence; in the overlay so does the opacity: what is unlit stays clear. */
    #paintEvidence(pixels) {
      const { colours, grid, maps } = this.#data;
      const size = maps.shape[2] * maps.shape[3];
      const cells = this.#evidence.subarray(this.#step * size, (this.#step + 1) * size);
      const opacity = this.mode === "heatmap" ? null : this.opacity;
      interpolate(cells, grid.y, grid.x).forEach((evidence, pixel) => {
        const colour = 3 * Math.round(255 * evidence);
        pixels[4 * pixel] = colours[colour];
        pixels[4 * pixel + 1] = colours[colour + 1];
        pixels[4 * pixel + 2] = colours[colour + 2];
        pixels[4 * pixel + 3] = opacity === null ? 255 : 255 * opacity * evidence;
      });
    }

    /** A white line with a dark rim where the truth, interpolated, crosses one half. */
    #paintTruth(pixels) {
      const { shape: [, rows, columns], bits, grid } = this.#data.mask;
      const size = rows * columns;
      const cells = bits.subarray(this.frame * size, (this.frame + 1) * size);
      const pitch = this.#layer.width / columns; // the mask climbs from 0 to 1 in this many pixels
      interpolate(cells, grid.y, grid.x).forEach((inside, pixel) => {
        const distance = Math.abs(inside - 0.5) * pitch;
        if (distance > 3) return;
        const line = clamp(1.6 - distance, 0, 1);
        pixels.fill(255 * line, 4 * pixel, 4 * pixel + 3);
        pixels[4 * pixel + 3] = 255 * Math.max(line, 0.6 * clamp(3 - distance, 0, 1));
      });
    }
  }

  const pageStyle = new CSSStyleSheet();
  pageStyle.replaceSync(PAGE_STYLE);
  document.adoptedStyleSheets.push(pageStyle);
  customElements.define(TAG, CamViewer);
})();
