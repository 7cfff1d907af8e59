// <cam-viewer>: a clip with the network's evidence on every frame. Printed by viewer.py.
//
// The state of a viewer is its attributes: frame, mode, class-index, versus-index, opacity, threshold,
// scale, against (what speaks against is drawn, too), motion, truth, speed, playing, cell
// ("row,column", which the pointer sets), open (of a tile). Its controls set them, a page or a test may
// set them (each is a property, too), and every change draws the viewer anew. A new frame, class or mode
// is told by cam-viewer:change, which bubbles and has { frame, classIndex, mode } as its detail. Links
// set a viewer, too: page.html#frame=7&class=15, where class is an index or a name; with &viewer=2 the
// second of a page. <cam-viewer tile> is small and moves until it is opened; <cam-wall> has many.
(() => {
  const TAG = "cam-viewer";
  if (customElements.get(TAG)) return; // every output prints this script; the first one counts

  const MODES = {
    original: "original", overlay: "overlay", heatmap: "heatmap", beside: "side by side",
  };
  const SPEEDS = [0.25, 0.5, 1, 2, 4];
  // The attributes, which are properties, too; a link may set the first of them.
  const LINKED = ["frame", "class-index", "versus-index", "mode", "opacity", "threshold", "scale",
    "against", "motion", "truth"];
  const OF_CLASS = ["class-index", "versus-index", "scale", "against", "motion"]; // what is drawn
  const STATE = [...LINKED, "speed", "playing", "cell", "open"];
  const NOTHING = "nothing"; // is taken away
  const TOURED = "cam-viewer:toured"; // the browser remembers it where it may
  const TOUR = [ // a part, and what is said of it
    ["stage", "The clip. Colours and lines show where the evidence is. Point at it for one cell."],
    ["ledger", "A bar for each step in time: up is for the class, down against it. Press one."],
    ["transport", "Plays and pauses. The arrow keys go from frame to frame."],
    ["class-field", "The class whose evidence is shown. Choose another, and compare."],
    ["modes", "Four views of the same evidence. Settings and saving are under More."],
  ];
  const GAP = 8; // pixels of the stage between two pictures side by side
  const STAGE_SIZE = 384; // least pixels on the longest side of the stage, for sharp colours

  // The page decides between light and dark; an element cannot see that from inside its shadow.
  // The last rules take back the light card that the book's theme puts behind outputs in the dark.
  const PAGE_STYLE = `
    cam-viewer, cam-point { display: block; color-scheme: light dark; }
    :is(html[data-theme=light], [data-jp-theme-light=true], body.vscode-light)
      :is(cam-viewer, cam-point) { color-scheme: light; }
    :is(html[data-theme=dark], [data-jp-theme-light=false], body.vscode-dark)
      :is(cam-viewer, cam-point) { color-scheme: dark; }
    cam-wall { display: grid; gap: .75rem; margin: .5rem 0; color-scheme: light dark;
      grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
    cam-wall > :is(h3, h4, p, button), cam-viewer[tile][open] { grid-column: 1 / -1; }
    cam-wall > button { justify-self: start; font: inherit; padding: .25rem .75rem;
      color: inherit; background: transparent; border: 1px solid #767b85; border-radius: 6px;
      cursor: pointer; }
    cam-wall > p { margin: .5rem 0 0; font-weight: 600; }
    .text_html:has(:is(cam-viewer, cam-point)[ready]) {
      background: none !important; padding: 0 !important; }
    .text_html:has(cam-wall) { color: inherit !important; }`;

  const STYLE = `viewer.css`; // viewer.py puts the file here

  const pick = (name, label) => `
        <label class="${name}-field field"><span class="name">${label}</span>
          <input class="${name}" list="${name}" autocomplete="off" spellcheck="false">
          <datalist class="${name}-list" id="${name}"></datalist></label>`;
  const slide = (name, label, range, end = "") => `
        <label class="row ${name}-field"><span class="name">${label}</span>
          <input class="${name}" type="range" ${range}>${end}</label>`;
  const TEMPLATE = `
    <div class="card" role="group" aria-label="A clip and the network's evidence">
      <div class="clip">
        <div class="stage" tabindex="0"><canvas role="img"></canvas></div>
        <div class="ledger" role="img"></div>
        <input class="frame" type="range" min="0" step="1" aria-label="Frame">
        <div class="transport"><button class="play" type="button"></button>
          <output class="status"></output></div>
        <p class="told"></p>
        <details class="numbers"><summary>In numbers</summary>
          <p class="sum"></p><p class="source"></p></details>
      </div>
      <div class="panel">
        <dl class="caption"></dl>
        ${pick("class", "Evidence for")}
        ${pick("versus", "less the evidence for")}
        <fieldset class="modes"><legend class="unseen">View</legend>${
          Object.entries(MODES).map(([mode, name]) =>
          `<label><input class="mode" type="radio" name="mode" value="${mode}">` +
          `<span>${name}</span></label>`).join("")}</fieldset>
        <div class="legend"><span class="from"></span><div class="ramp"><i></i></div>
          <span class="most"></span><span class="unit name"></span></div>
        <label class="row"><input class="against" type="checkbox">show evidence against, too</label>
        <label class="row"><input class="motion" type="checkbox">less what each frame shows
          alone</label>
        <label class="row"><input class="truth" type="checkbox">outline the truth</label>
        <details class="more"><summary>More</summary>
          ${slide("opacity", "Opacity", 'min="0" max="1" step="0.05"')}
          ${slide("threshold", "Hide below", 'min="0" max="0.95" step="0.05"',
            '<output class="least"></output>')}
          <label class="row"><input class="scale" type="checkbox">one scale for all classes</label>
          <div class="row">
            <label><span class="name">Speed</span> <select class="speed">${SPEEDS.map(speed =>
              `<option value="${speed}">${speed}×</option>`).join("")}</select></label>
            <button class="save-frame" type="button">Save frame</button>
            <button class="save-clip" type="button">Save clip</button>
            <button class="link" type="button">Copy link</button>
          </div>
        </details>
        <button class="close" type="button">Close</button>
      </div>
      <div class="tour row" hidden><span class="step" role="status"></span>
        <button class="onward" type="button"></button>
        <button class="skip" type="button"></button></div>
    </div>
    <div class="print"></div>
    <slot></slot>`;

  const bytes = text => {
    const raw = atob(text);
    const made = new Uint8Array(raw.length);
    for (let place = 0; place < raw.length; place++) made[place] = raw.charCodeAt(place);
    return made;
  };
  const define = (tag, Kind, style) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
    document.adoptedStyleSheets.push(sheet);
    customElements.define(tag, Kind);
  };
  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const probability = value => value.toFixed(2).replace(/^0/, "");
  const decimals = (value, digits = 3) => value.toFixed(digits).replace("-", "−");
  const signed = (value, digits) => (value < 0 ? "" : "+") + decimals(value, digits);

  // "class-index" is .classIndex to scripts, and "class" in a link.
  const property = attribute => attribute.replace("-index", "Index");
  const spoken = attribute => attribute.replace("-index", "");

  /** For each of `length` pixels, the two cells it lies between and the weight of the second. */
  const between = (centres, length) => {
    const [first, second, weight] =
      [Uint16Array, Uint16Array, Float32Array].map(Kind => new Kind(length));
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

  /** How much of a line where the evidence is 1/4, 1/2 or 3/4 lies on a pixel, from 0 to 1. */
  const onLine = (values, pixel, width, breadth) => {
    const value = Math.abs(values[pixel]);
    const apart = Math.abs(value - clamp(Math.round(4 * value), 1, 3) / 4);
    if (apart > 0.1) return 0;
    const at = place => values[place] ?? values[pixel];
    const across = by => at(pixel + by) - at(pixel - by);
    const inside = pixel % width % (width - 1); // else the next pixel is on the other side
    const slope = Math.hypot(inside ? across(1) : 0, across(width)) / 2;
    return slope > 1e-6 ? clamp(breadth - apart / slope, 0, 1) : 0; // no lines on level ground
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

  /** Seconds from one frame to the next, without the frames that are only held. */
  const pace = times => {
    const steps = times.slice(1).map((time, frame) => time - times[frame]).filter(step => step > 0);
    return steps.length ? steps.sort((a, b) => a - b)[steps.length >> 1] : 0.25;
  };

  const pause = seconds => new Promise(done => setTimeout(done, 1000 * seconds));

  /** Saves a file with a name like Tearing-something-frame-7.png. */
  const download = (blob, name, end) => {
    const href = URL.createObjectURL(blob);
    const stem = name.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 100);
    element("a", { href, download: stem + end }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  };

  class CamViewer extends HTMLElement {
    static observedAttributes = STATE;
    static tools = { element, define, clamp, pause, probability }; // for the elements around it
    static {
      // Setting a property sets its attribute; null, false and "" take it away.
      for (const attribute of STATE) {
        const { get } = Object.getOwnPropertyDescriptor(this.prototype, property(attribute)) ??
          { get() { return this.hasAttribute(attribute); } };
        const set = function (value) {
          if ([null, false, ""].includes(value)) this.removeAttribute(attribute);
          else this.setAttribute(attribute, value);
        };
        Object.defineProperty(this.prototype, property(attribute), { get, set });
      }
      addEventListener("hashchange", () => {
        for (const viewer of document.querySelectorAll(TAG)) viewer.#follow();
      });
      matchMedia("print").addEventListener("change", ({ matches }) => {
        if (matches) for (const viewer of document.querySelectorAll(TAG)) viewer.#drawPrint();
      });
    }
    #data; // as printed by viewer.py
    #sheet; // all frames, one ImageBitmap
    #parts; // the elements of the shadow tree, by class
    #layer = document.createElement("canvas"); // what is laid over the frame
    #signed; // the evidence of the selected class (T, h, w)
    #evidence; // what of it is drawn: 0 to 1 over the clip, from -1 with what speaks against
    #colours; // of 256 steps from the least of it to the greatest
    #greatest; // evidence of one cell that is 1
    #unit; // "of the logit" where cells add up to it
    #sums; // its ledger (T,)
    #timer;
    #inSight = false; // nothing is unpacked before the viewer comes near, nothing plays after
    #sight = new IntersectionObserver(changes => {
      this.#inSight = changes.at(-1).isIntersecting;
      if (!this.#data && this.#inSight) this.#start();
      else this.#keepTime();
    }, { rootMargin: "50%" });

    #fraction(name, other) { return clamp(Number(this.getAttribute(name) ?? other) || 0, 0, 1); }
    get frame() {
      return clamp(Math.round(Number(this.getAttribute("frame"))) || 0, 0, this.frames - 1);
    }
    get frames() { return this.#data?.sheet.frames ?? 1; }
    get mode() { return Object.keys(MODES).find(one => one === this.getAttribute("mode")) ?? "overlay"; }
    get classIndex() {
      const index = Number(this.getAttribute("class-index"));
      return this.#data?.mapped.includes(index) === false ? this.#data.mapped[0] : index;
    }
    /** The class whose evidence is taken away, or null. */
    get versusIndex() {
      const other = parseInt(this.getAttribute("versus-index")); // none is not a number
      return other !== this.classIndex && this.#data?.mapped.includes(other) ? other : null;
    }
    get opacity() { return this.#fraction("opacity", 0.45); }
    /** Evidence below this fraction of the greatest is not shown. */
    get threshold() { return this.#fraction("threshold", 0); }
    /** How many times as fast as the clip was filmed. */
    get speed() { return SPEEDS.find(one => one === Number(this.getAttribute("speed"))) ?? 1; }
    /** Colours run up to the largest evidence of "all" classes, or of the "class" alone. */
    get scale() { return this.getAttribute("scale") === "class" ? "class" : "all"; }
    /** What each frame shows alone, without motion, is taken away from the evidence. */
    get motion() { return this.hasAttribute("motion") && Boolean(this.#data?.alone); }
    /** [row, column] of the cell whose footprint is shown, or null. */
    get cell() {
      const cell = /^(\d+),(\d+)$/.exec(this.getAttribute("cell"))?.slice(1).map(Number);
      const [, , rows, columns] = this.#data?.maps.shape ?? [];
      return this.mode !== "original" && cell?.[0] < rows && cell[1] < columns ? cell : null;
    }
    get #closed() { return this.hasAttribute("tile") && !this.open; }

    focus(options) { this.#parts?.stage.focus(options); }

    connectedCallback() {
      // The parser may not have read the children of this element yet.
      const begin = () => {
        this.#sight.observe(this);
        this.#follow();
      };
      if (this.#payload || document.readyState !== "loading") begin();
      else document.addEventListener("DOMContentLoaded", begin, { once: true });
    }

    disconnectedCallback() {
      this.#sight.disconnect();
      clearInterval(this.#timer);
    }

    attributeChangedCallback(name, before, after) {
      if (!this.#data || before === after) return;
      if (OF_CLASS.includes(name)) this.#showClass();
      if (name === "playing" || name === "speed") this.#keepTime();
      this.#draw();
      if (!["frame", "class-index", "mode"].includes(name)) return;
      const { frame, classIndex, mode } = this;
      const told = { bubbles: true, composed: true, detail: { frame, classIndex, mode } };
      this.dispatchEvent(new CustomEvent(`${TAG}:change`, told));
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
      this.#follow();
    }

    /** Takes its state from the page's address, if that names this viewer. */
    #follow() {
      const wanted = new URLSearchParams(location.hash.slice(1));
      const named = LINKED.filter(attribute => wanted.has(spoken(attribute)));
      const place = [...document.querySelectorAll(TAG)].indexOf(this) + 1;
      if (!named.length || place !== Number(wanted.get("viewer") ?? 1)) return;
      if (!this.#data) return this.#start(); // out of sight till now; comes back here
      const { classes, mapped } = this.#data;
      for (const attribute of named) {
        let value = wanted.get(spoken(attribute));
        if (attribute.endsWith("-index") && value) {
          value = /^\d+$/.test(value) && value < classes.length ? +value : classes.indexOf(value);
          if (!mapped.includes(value)) continue; // no such class, or it has no map
        }
        this[property(attribute)] = value;
      }
      this.open = true;
      this.playing = false;
      this.scrollIntoView({ block: "nearest" });
    }

    /** The address of this page with this viewer as it is now. */
    get link() {
      const place = [...document.querySelectorAll(TAG)].indexOf(this) + 1;
      const state = new URLSearchParams({ viewer: place });
      for (const attribute of LINKED) {
        const value = this[property(attribute)];
        state.set(spoken(attribute), value === null || value === false ? "" : value);
      }
      return `${location.href.split("#")[0]}#${state}`;
    }

    /** Unpacks the data, and finds for every pixel of the stage the cells it lies between. */
    #prepare(data) {
      const { sheet, cells, mask } = data;
      const zoom = Math.max(1, STAGE_SIZE / Math.max(sheet.width, sheet.height));
      const [width, height] = [sheet.width, sheet.height].map(side => Math.round(side * zoom));
      Object.assign(this.#layer, { width, height });
      data.maps.values = new Int16Array(bytes(data.maps.values).buffer);
      if (data.alone) data.alone.values = new Int16Array(bytes(data.alone.values).buffer);
      data.colours = bytes(data.colours);
      data.grid = { y: between(cells[0], height), x: between(cells[1], width) };
      if (mask) {
        mask.bits = unpackBits(bytes(mask.bits));
        const [, rows, columns] = mask.shape;
        mask.grid = { y: between(evenly(rows), height), x: between(evenly(columns), width) };
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
      const { frame, ledger, source, truth, motion } = this.#parts;
      frame.max = data.sheet.frames - 1;
      frame.style.setProperty("--frames", data.sheet.frames);
      truth.parentElement.hidden = !data.mask;
      motion.parentElement.hidden = !data.alone;
      const [, steps, rows, columns] = data.maps.shape;
      source.textContent =
        `${data.method} at layer ${data.layer}, ${steps} × ${rows} × ${columns} cells` +
        (data.footprint ? `; ${data.footprint.text}` : "") + (data.note ? `; ${data.note}` : "");
      this.#buildClasses();
      ledger.innerHTML = "<span><i></i></span>".repeat(steps);
      this.#listen(root);
      this.#offerTour();
    }

    /** Five steps, offered by the first viewer of a page until they are taken or declined. */
    #offerTour() {
      const { tour, step, onward, skip } = this.#parts;
      try {
        if (localStorage.getItem(TOURED) || document.querySelector(TAG) !== this) return;
      } catch { return; } // storage is not allowed here, so that it would be offered for ever
      let place = -1;
      const show = () => {
        const [part, said] = TOUR[place] ?? [];
        TOUR.forEach(([name]) => this.#parts[name].classList.toggle("toured", name === part));
        step.textContent = part ? `${place + 1} of ${TOUR.length}: ${said}` : "New here?";
        onward.textContent = !part ? "Take the tour" : TOUR[place + 1] ? "Next" : "Done";
        skip.textContent = part ? "Skip" : "No, thanks";
        if (part) this.#parts[part].scrollIntoView({ block: "nearest" });
        tour.classList.toggle("begun", Boolean(part));
        tour.hidden = place === TOUR.length;
        if (!tour.hidden) return;
        try { localStorage.setItem(TOURED, "yes"); } catch { /* full: offered again */ }
      };
      onward.addEventListener("click", () => { place++; show(); });
      skip.addEventListener("click", () => { place = TOUR.length; show(); });
      show();
    }

    /** The caption of the article (truth and two guesses), and all classes to choose from. */
    #buildClasses() {
      const { classes, probabilities, mapped, label } = this.#data;
      const { caption, class: field, versus } = this.#parts;
      const ranking = [...classes.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
      const add = (term, told, note = element("dd", {})) => {
        const row = caption.appendChild(document.createElement("div"));
        row.append(element("dt", { textContent: term }), element("dd", {}), note);
        row.children[1].append(told);
      };
      const chosen = index => element(mapped.includes(index) ? "button" : "span", {
        type: "button", value: index, textContent: classes[index],
      });
      if (this.#data.name) add("clip", this.#data.name);
      if (label !== null) add("true", chosen(label));
      ranking.slice(0, 2).forEach((index, place) => {
        const note = element("dd", { textContent: probability(probabilities[index]) });
        if (index === label) {
          note.append(element("span", { className: "right", textContent: " ✓ right" }));
        } else if (label !== null && place === 0) {
          note.append(element("span", { className: "wrong", textContent: " ✗ wrong" }));
        }
        add(["1st", "2nd"][place], chosen(index), note);
      });
      const entries = ranking.filter(index => mapped.includes(index)).map(index => {
        const name = classes[index];
        return { index, name, text: `${probability(probabilities[index])} ${name}` };
      });
      const nothing = { index: null, name: NOTHING, text: NOTHING };
      for (const [name, offered] of [["class", entries], ["versus", [nothing, ...entries]]]) {
        const field = this.#parts[name];
        CamViewer.offer(field, this.#parts[`${name}-list`], offered, ({ index }) => {
          this[`${name}Index`] = index;
          field.value = "";
        });
      }
      this.#parts["versus-field"].hidden = mapped.length < 2;
    }

    /**
     * A text field over the browser's own list. An entry is taken in the list, or by Enter: the
     * one whose whole name is typed, or else the first that has all the words. When the field
     * comes into use it is empty, so that the list is whole, and what was taken is in sight behind.
     */
    static offer(field, list, entries, take) {
      list.append(...entries.map(({ text }) => element("option", { value: text })));
      field.addEventListener("focus", () => { field.value = ""; });
      field.addEventListener("blur", () => { field.value = field.placeholder; });
      field.addEventListener("input", () => {
        const entry = entries.find(({ text }) => text === field.value);
        if (entry) take(entry);
      });
      field.addEventListener("keydown", ({ key }) => {
        const words = field.value.toLowerCase().split(/\s+/);
        if (key !== "Enter" || !words.join("")) return;
        const entry = entries.find(({ name }) => name === field.value.trim()) ??
          entries.find(({ name }) => name.toLowerCase() === words.join(" ").trim()) ??
          entries.find(({ name }) => words.every(word => name.toLowerCase().includes(word)));
        field.setCustomValidity(entry ? "" : "There is none of that name.");
        field.reportValidity();
        if (!entry) return;
        field.value = "";
        take(entry);
      });
    }

    #listen(root) {
      const { stage, ledger, play, caption, link, close, ...others } = this.#parts;
      this.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's, on the same keys
      root.addEventListener("keydown", event => this.#onKey(event));
      root.addEventListener("input", ({ target }) => this.#onInput(target));
      play.addEventListener("click", () => { this.playing = !this.playing; });
      caption.addEventListener("click", ({ target }) => {
        if (target.localName === "button") this.classIndex = target.value;
      });
      link.addEventListener("click", () => this.#copyLink());
      others["save-frame"].addEventListener("click", () => this.#saveFrame());
      others["save-clip"].addEventListener("click", () => this.#saveClip());
      others["save-clip"].hidden = !window.MediaRecorder;
      close.addEventListener("click", () => this.#close());
      stage.addEventListener("click", () => this.#openTile());
      // A pointer that hovers shows the cell below it; a finger taps, and taps again to be rid of it.
      const point = (name, touch, chosen) => stage.addEventListener(name, event => {
        if (touch === (event.pointerType === "touch")) this.cell = chosen(this.#cellAt(event));
      });
      point("pointermove", false, cell => cell);
      point("pointerup", true, cell => `${cell}` === this.getAttribute("cell") ? null : cell);
      point("pointerleave", false, () => null);
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
      const [y, x] = this.#data.cells;
      const column = (clientX - left) / width * this.#canvas.width; // in pixels of the stage
      const across = column % (this.#layer.width + GAP) / this.#layer.width;
      return [nearest(y, (clientY - top) / height), nearest(x, across)];
    }

    #onInput({ className, type, value, checked }) {
      if (className === "frame") this.#go(Number(value));
      else if (className === "scale") this.scale = checked ? "all" : "class";
      else if (type === "checkbox") this[className] = checked && value;
      else if (STATE.includes(className)) this[className] = value;
    }

    #onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key !== "Tab") event.stopPropagation(); // books turn the page on an arrow key
      const ownsArrows = event.target.matches("input, select");
      const ownsSpace = event.target.matches("button, select, summary, input:not([type=range])");
      const step = event.shiftKey && event.target.matches(".stage") && !this.#closed && {
        ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const goal = {
        ArrowLeft: this.frame - 1, ArrowRight: this.frame + 1, Home: 0, End: this.frames - 1,
      }[event.key];
      if (step) {
        const count = this.#data.maps.shape.slice(2);
        this.cell = (this.cell ?? count.map(cells => cells >> 1))
          .map((place, axis) => clamp(place + step[axis], 0, count[axis] - 1));
      } else if (this.#closed && (event.key === "Enter" || event.key === " ")) this.#openTile();
      else if (this.open && event.key === "Escape") this.#close();
      else if (goal !== undefined && !ownsArrows) this.#go(goal);
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
      if (!this.#data || !this.playing || !this.#inSight || !this.isConnected) return;
      const next = () => { this.frame = (this.frame + 1) % this.frames; };
      this.#timer = setInterval(next, 1000 * pace(this.#data.times) / this.speed);
    }

    #openTile() {
      if (!this.#closed) return;
      this.open = true;
      this.scrollIntoView({ block: "nearest" });
    }

    #close() {
      this.open = false;
      this.focus();
    }

    /** Whether a link could be copied; the address bar has it, too. */
    static async copy(link) {
      history.replaceState(null, "", link);
      return navigator.clipboard?.writeText(link).then(() => true, () => false) ?? false;
    }

    async #copyLink() {
      const { link } = this.#parts;
      link.textContent = await CamViewer.copy(this.link) ? "Copied" : "See the address";
      await pause(2);
      link.textContent = "Copy link";
    }

    get #fileName() { return `${this.#subject}-${this.mode}`; }

    #saveFrame() {
      const [name, end] = [this.#fileName, `-frame-${this.frame + 1}.png`];
      this.#canvas.toBlob(blob => download(blob, name, end));
    }

    async #saveClip() {
      const button = this.#parts["save-clip"];
      const { frame } = this;
      Object.assign(button, { disabled: true, textContent: "Recording" });
      this.playing = false;
      await CamViewer.film(this.#canvas, this.frames, index => {
        this.frame = index;
        this.#draw();
      }, pace(this.#data.times) / this.speed, this.#fileName);
      this.frame = frame;
      Object.assign(button, { disabled: false, textContent: "Save clip" });
    }

    static webm = Boolean(window.MediaRecorder?.isTypeSupported("video/webm"));

    /** Plays a canvas once before a recorder, and saves it: a video takes as long as it lasts.
     * `show` draws a frame, for a canvas that nobody draws on gives none. */
    static async film(canvas, frames, show, seconds, name) {
      show(0);
      const stream = canvas.captureStream(30);
      const mimeType = CamViewer.webm ? "video/webm" : ""; // or whatever the browser makes
      const recorder = new MediaRecorder(stream, { videoBitsPerSecond: 4e6, mimeType });
      const filmed = new Promise(done => recorder.addEventListener("dataavailable", done));
      recorder.start();
      for (let index = 0; index < frames; index++) {
        show(index);
        await pause(seconds);
      }
      recorder.stop();
      const { data } = await filmed;
      stream.getTracks().forEach(track => track.stop());
      download(data, name, `.${data.type.match(/\w+\/(\w+)/)[1]}`);
    }

    /** The step of the maps nearest in time to a frame. */
    #stepAt(frame) { return Math.floor((frame + 0.5) * this.#data.maps.shape[1] / this.frames); }
    get #step() { return this.#stepAt(this.frame); }
    get #canvas() { return this.#parts.stage.firstElementChild; }

    /** Everything that hangs on the class: evidence and its scale, the ledger and its sum. */
    #showClass() {
      const { classes, mapped, maps, ledger, alone, bias, logits, colours } = this.#data;
      const [chosen, other] = [this.classIndex, this.versusIndex];
      const [row, less] = [mapped.indexOf(chosen), mapped.indexOf(other)];
      const [, steps, height, width] = maps.shape;
      const size = steps * height * width;
      const integers = ({ values }, index) => values.subarray(index * size, (index + 1) * size);
      const unpacked = (some, index) =>
        Float32Array.from(integers(some, index), value => value * some.scales[index]);
      const { against, motion } = this;
      const minus = (map, other) => map.map((value, cell) => value - other[cell]);
      const signedMap = index => motion
        ? minus(unpacked(maps, index), unpacked(alone, index)) : unpacked(maps, index);
      const largest = values =>
        values.reduce((peak, value) => Math.max(peak, against ? Math.abs(value) : value), 0);
      const peak = index => motion ? largest(signedMap(index)) :
        maps.scales[index] * largest(integers(maps, index)); // of every class: nothing is unpacked
      const evidence = this.#signed = other === null
        ? signedMap(row) : minus(signedMap(row), signedMap(less));
      const shared = this.scale === "all" && other === null;
      const first = mapped.reduce((best, k) => logits[k] > logits[best] ? k : best, mapped[0]);
      const greatest = shared // what the most probable class has at most, if it has any
        ? peak(mapped.indexOf(first)) || Math.max(...mapped.map((_, index) => peak(index)))
        : largest(evidence);
      const unit = greatest > 0 ? 1 / greatest : 0;
      this.#evidence = evidence.map(value => clamp(value * unit, against ? -1 : 0, 1));
      this.#colours = colours.subarray(against ? 768 : 0);
      this.#greatest = greatest;
      this.#showLegend(shared ? "one scale for all classes" :
        `a scale for ${other === null ? "this class" : "these two"} alone`);
      const difference = sums => sums[row].map((sum, step) => sum - (sums[less]?.[step] ?? 0));
      const standing = motion ? difference(alone.ledger) : [];
      this.#sums = difference(ledger).map((sum, step) => sum - (standing[step] ?? 0));
      this.#showLedger(this.#sums);

      const apart = values => values[chosen] - (other === null ? 0 : values[other]);
      const [logit, sum] = [apart(logits), this.#sums.reduce((a, b) => a + b, 0)];
      const offset = bias && standing.reduce((a, b) => a + b, apart(bias));
      const [biases, name] = other === null
        ? ["bias", "logit"] : ["difference of biases", "lead in logits"];
      const offsetName = motion ? `${biases} and frames alone` : biases;
      // Only average pooling and a linear head above the layer make the books balance.
      const balanced = bias && Math.abs(sum + offset - logit) < 1e-3 * Math.max(1, Math.abs(logit));
      this.#unit = balanced ? ` of the ${other === null ? "logit" : "lead"}` : "";
      this.#parts.told.textContent = `A bar up speaks for ${this.#subject}, a bar down ` +
        `against it. Together they speak ${sum < 0 ? "against" : "for"} it.`;
      this.#parts.sum.textContent = balanced
        ? `Σ bars ${decimals(sum)} + ${offsetName} ${decimals(offset)} = ${name} ${decimals(logit)}`
        : `Σ bars ${decimals(sum)}, ${name} ${decimals(logit)} (equal only at the last layer)`;
      for (const button of this.#parts.caption.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", Number(button.value) === chosen);
      }
      for (const [field, index] of [[this.#parts.class, chosen], [this.#parts.versus, other]]) {
        field.placeholder = classes[index] ?? NOTHING;
        field.value = field.matches(":focus") ? "" : field.placeholder;
      }
      this.#parts.scale.disabled = other !== null;
      this.#parts.ledger.setAttribute("aria-label", `Evidence for ${this.#subject} in ` +
        `each frame: ${this.#sums.map(sum => signed(sum)).join(", ")}`);
    }

    /** True class and the two most probable, as viewer.py wrote them. */
    get #guesses() { return this.querySelector(":scope > p").textContent; }

    /** What the evidence is for, in words. */
    get #subject() {
      const { classes } = this.#data;
      const less = this.versusIndex === null ? "" : ` and not ${classes[this.versusIndex]}`;
      return classes[this.classIndex] + less + (this.motion ? ", less each frame alone" : "");
    }

    /** The colours from nothing, or from what speaks against, to the greatest evidence. */
    #showLegend(scale) {
      const { from, most, ramp, unit } = this.#parts;
      const stops = Array.from({ length: 18 }, (_, i) => this.#colours.slice(45 * i, 45 * i + 3));
      ramp.style.background = `linear-gradient(90deg, ${stops.map(rgb => `rgb(${rgb})`)})`;
      ramp.classList.toggle("both", this.against);
      const greatest = this.#greatest ? this.#greatest.toPrecision(2) : "0";
      from.textContent = this.against ? `against −${greatest}` : "0";
      most.textContent = this.against ? `+${greatest} for` : greatest;
      unit.textContent = `evidence in one cell, ${scale}`;
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
      const { stage, play, ledger, modes, opacity, threshold, status, ...others } = this.#parts;
      const { times } = this.#data;
      const sum = this.#sums[this.#step];
      const place = `frame ${frame + 1} of ${this.frames}`;
      this.#canvas.setAttribute("aria-label", `${place}, ${MODES[mode]}` +
        (mode === "original" ? "" : `: evidence for ${this.#subject}`));
      const closed = this.#closed;
      this.#parts.panel.inert = closed;
      stage.role = closed ? "button" : "group";
      stage.setAttribute("aria-label", closed ? `Open in the viewer: ${this.#guesses}` :
        "Clip: left and right arrow change the frame, arrows with shift the cell, space plays " +
        "and pauses");
      play.textContent = playing ? "❚❚ Pause" : "▶ Play";
      status.setAttribute("aria-live", playing ? "off" : "polite");
      status.value = this.cell ? this.#cellText() :
        `${frame + 1}/${this.frames} · ${times[frame].toFixed(2)} s · evidence ${signed(sum, 2)}`;
      others.frame.value = frame;
      others.frame.setAttribute("aria-valuetext", `${place}, evidence ${signed(sum)}`);
      [...ledger.children].forEach((bar, step) => bar.classList.toggle("now", step === this.#step));
      this.#markReach();
      modes.querySelector(`[value=${mode}]`).checked = true;
      opacity.value = this.opacity;
      opacity.disabled = mode === "original" || mode === "heatmap";
      threshold.value = this.threshold;
      threshold.disabled = mode === "original";
      const least = this.threshold * this.#greatest;
      others.least.value = least ? least.toPrecision(2) : "0";
      threshold.setAttribute("aria-valuetext", `${others.least.value} logits`);
      others.ramp.firstElementChild.style.width = `${100 * this.threshold}%`;
      others.speed.value = this.speed;
      others.scale.checked = this.scale === "all";
      for (const name of ["truth", "against", "motion"]) others[name].checked = this[name];
      others.against.disabled = mode === "original";
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
      const [first, last] = covered(around(this.#now, footprint.core[0]), this.frames)
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
        const [first, last] = covered(around(this.#now, footprint[extent][0]), steps);
        for (let step = first; step <= last; step++) {
          this.#parts.ledger.children[step].dataset.seen = extent;
        }
      }
    }

    #drawStage() {
      const { width, height } = this.#layer;
      const modes = this.mode === "beside" ? ["original", "overlay"] : [this.mode];
      Object.assign(this.#canvas, { width: modes.length * (width + GAP) - GAP, height });
      const stage = this.#canvas.getContext("2d");
      for (const mode of modes) {
        this.#drawFrame(stage, this.frame, mode);
        if (this.cell) this.#paintFootprint(stage);
        stage.translate(width + GAP, 0);
      }
    }

    /** A frame, and over it what the mode shows. */
    #drawFrame(stage, frame, mode) {
      const { sheet, mask } = this.#data;
      const { width, height } = this.#layer;
      const layer = this.#layer.getContext("2d", { willReadFrequently: true });
      const [column, row] = [frame % sheet.columns, Math.floor(frame / sheet.columns)];
      stage.drawImage(this.#sheet, column * sheet.width, row * sheet.height, sheet.width,
        sheet.height, 0, 0, width, height);
      const lay = paint => {
        const picture = layer.createImageData(width, height);
        paint(picture.data);
        layer.putImageData(picture, 0, 0);
        stage.drawImage(this.#layer, 0, 0);
      };
      if (mode !== "original") lay(pixels => this.#paintEvidence(pixels, frame, mode));
      if (this.truth && mask) lay(pixels => this.#paintTruth(pixels, frame));
    }

    /** All frames in rows, as the viewer shows them, for paper. */
    #drawPrint() {
      if (!this.#data) return; // the contact sheet is printed as it came
      const canvas = document.createElement("canvas");
      const { width, height } = this.#layer;
      const { columns } = this.#data.sheet;
      const rows = Math.ceil(this.frames / columns);
      Object.assign(canvas, { width: columns * (width + GAP), height: rows * (height + GAP) });
      const paper = canvas.getContext("2d");
      const mode = this.mode === "beside" ? "overlay" : this.mode;
      for (let frame = 0; frame < this.frames; frame++) {
        const [column, row] = [frame % columns, Math.floor(frame / columns)];
        paper.setTransform(1, 0, 0, 1, column * (width + GAP), row * (height + GAP));
        this.#drawFrame(paper, frame, mode);
      }
      const textContent =
        `${this.#guesses}. Evidence for ${this.#subject}: ${this.#parts.sum.textContent}`;
      this.#parts.print.replaceChildren(canvas, element("p", { textContent }));
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
      outline(cellSpan(cells[0], row), cellSpan(cells[1], column), "white", 1.5);
      for (const [extent, line, dash] of [["field", 1, [2, 4]], ["core", 1.5, [7, 4]],
        ["half", 2.5, []]]) {
        if (!footprint) break;
        const [, y, x] = footprint[extent];
        const [down, across] = [around(cells[0][row], y), around(cells[1][column], x)];
        const whole = `${[...down, ...across]}` === "0,1,0,1";
        if (!whole || extent === "half") outline(down, across, "#6ff3ff", line, dash);
      }
      stage.setLineDash([]);
    }

    /**
     * Colour shows the evidence; over the frame opacity does, too, and lines at quarters of the
     * scale in the colour of the next one: what is unlit stays clear. overlay.py draws the same.
     */
    #paintEvidence(pixels, frame, mode) {
      const { grid, maps } = this.#data;
      const size = maps.shape[2] * maps.shape[3];
      const step = this.#stepAt(frame);
      const cells = this.#evidence.subarray(step * size, (step + 1) * size);
      const { opacity, threshold, against } = this;
      const values = interpolate(cells, grid.y, grid.x);
      const heatmap = mode === "heatmap";
      const breadth = heatmap ? 0 : this.#closed ? 2.5 : 1.5; // half a line in pixels of the stage
      values.forEach((value, pixel) => {
        const strength = Math.abs(value) < threshold ? 0 : Math.abs(value);
        const line = strength && onLine(values, pixel, grid.x.length, breadth);
        const bright = Math.sign(value) * Math.min(1, strength + line / 4);
        const colour = 3 * Math.round(255 * (against ? (1 + bright) / 2 : bright));
        for (let i = 0; i < 3; i++) pixels[4 * pixel + i] = this.#colours[colour + i];
        pixels[4 * pixel + 3] = 255 * (heatmap || opacity * Math.max(strength, 2 * line));
      });
    }

    /** A white line with a dark rim where the truth, interpolated, crosses one half. */
    #paintTruth(pixels, frame) {
      const { shape: [, rows, columns], bits, grid } = this.#data.mask;
      const size = rows * columns;
      const cells = bits.subarray(frame * size, (frame + 1) * size);
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

  /** A grid of tiles under one button, for whatever moves can be stopped. */
  class CamWall extends HTMLElement {
    #button = element("button", { type: "button" });

    connectedCallback() {
      if (this.#button.isConnected) return;
      let moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
      const label = () => { this.#button.textContent = moving ? "Pause all" : "Play all"; };
      this.#button.addEventListener("click", () => {
        moving = !moving;
        for (const viewer of this.querySelectorAll(TAG)) viewer.playing = moving;
        label();
      });
      label();
      this.prepend(this.#button);
    }
  }

  define(TAG, CamViewer, PAGE_STYLE);
  define("cam-wall", CamWall, "");
})();
