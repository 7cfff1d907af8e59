// <cam-stage>, inside <cam-live>: act something out, and see what the network takes it for.
//
// The reader drags a thing of the drawn clips with mouse, finger or keys; Record keeps sixteen states, a
// quarter of a second apart. A gesture is that list of states: it is drawn as lib/miniature draws its
// clips, so it can be drawn again without the hand, with another thing or in another place, and a link
// can hold it. World units are those of lib/miniature: 128 from top to bottom, from the frame's middle.
(() => {
  const TAG = "cam-stage";
  if (customElements.get(TAG)) return;

  const STYLE = `
    cam-stage { display: block; margin: .75rem 0; }
    cam-stage:empty { display: none; }
    cam-stage .both { display: flex; flex-wrap: wrap; gap: .75rem 1.25rem; }
    cam-stage .both > * { flex: 1 1 15rem; min-width: 0; }
    cam-stage canvas { display: block; width: 100%; max-width: 22rem; aspect-ratio: 1;
      border-radius: 6px; touch-action: none; cursor: grab; }
    cam-stage label { max-width: 100%; } cam-stage .told { scroll-margin-top: 5rem; }
    cam-stage :is(select, [list]) { font: inherit; color: inherit; background: var(--well);
      padding: .25rem; border: 1px solid var(--line); border-radius: 6px; max-width: 100%; }
    cam-stage .hint, cam-stage ::placeholder { opacity: 1; color: light-dark(#5a5d66, #a5a9b4); }`;

  const FRAME = 128; // world units from top to bottom
  const WORLD = 352; // side of a background
  const SIZE = 40; // longer side of a thing
  const SHADOW = 60; // margin of a shadow in pixels of its picture, which is four times as large
  const REACH = 160; // how far a hand is that is out of sight
  const FETCH = 0.45; // seconds that a hand takes to come or go
  const PACE = 34; // world units a second by arrow keys
  const FIELDS = ["x", "y", "grown", "turn", "away", "cx", "cy", "cz"]; // of a state
  const FINE = [50, 50, 5000, 5000, 10000, 50, 50, 5000]; // steps of each in a link
  const REST = { x: 0, y: 5, grown: 1, turn: 0, away: 1, cx: 0, cy: 0, cz: 1 };

  // What it can be made to say: where the thing, or the camera, is at first and at last.
  const GESTURES = [
    { name: "Push it from left to right", says: "Moving [something] from left to right",
      from: { x: -38 }, to: { x: 38, y: 3 } },
    { name: "Now the other way", says: "Moving [something] from right to left",
      from: { x: 38 }, to: { x: -38, y: 3 } },
    { name: "Move it down", says: "Moving [something] down",
      from: { x: 4, y: -36 }, to: { x: 2, y: 36 } },
    { name: "Bring it closer, with the wheel or +", says: "Moving [something] towards the camera",
      from: { x: 8, y: 0, grown: 0.6 }, to: { grown: 1.8 }, enter: 0, leave: 1 },
    { name: "Take it further away, with the wheel or −",
      says: "Moving [something] away from the camera",
      from: { grown: 1.8 }, to: { x: 8, y: 0, grown: 0.6 }, enter: 0, leave: 1 },
    { name: "Pick it up: out of the picture, the way the hand came", says: "Picking [something] up",
      from: { y: 10 }, to: { x: 55, y: 160, grown: 1.25 }, enter: 0.35, leave: 1 },
    { name: "Turn the camera left", says: "Turning the camera left while filming [something]",
      from: { cx: 45 }, to: { cx: -45 }, camera: true },
    { name: "Walk up to it with the camera", says: "Approaching [something] with your camera",
      from: { cz: 0.78 }, to: { cz: 1.65 }, camera: true },
  ];

  const viewer = customElements.get("cam-viewer");
  const { element, define, clamp, pause } = viewer.tools;
  const { button } = customElements.get("cam-live");
  const smooth = (u, start, end) => {
    const s = end > start ? clamp((u - start) / (end - start), 0, 1) : Number(u >= start);
    return s * s * (3 - 2 * s);
  };

  /** Numbers from 0 to 1, the same ones for the same seed. */
  const chance = seed => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };

  /** The states of a stored gesture, a quarter of a second apart. */
  const acted = ({ from, to, camera, enter = 0.25, leave = 0.75 }, count, fps) => {
    const [first, last] = [from, to].map(some => ({ ...REST, ...some }));
    return Array.from({ length: count }, (_, frame) => {
      const u = clamp((frame / fps - 0.6) / 2.4, 0, 1);
      const s = smooth(u, enter, leave);
      const state = Object.fromEntries(FIELDS.map(field =>
        [field, first[field] + s * (last[field] - first[field])]));
      for (const field of ["grown", "cz"]) state[field] = first[field] * (last[field] / first[field]) ** s;
      const before = enter > 0 ? 1 - smooth(u, 0, enter) : 0;
      state.away = camera ? 1 : Math.max(before, leave < 1 ? smooth(u, leave, 1) : 0);
      return state;
    });
  };

  /** A camera held by hand: seconds to (x, y, zoom, angle), as `handheld` of lib/miniature. */
  const handheld = random => {
    const waves = [1.6, 1.6, 0.012, 0.012].map(reach => ({
      reach: reach * 1.5 * random(),
      parts: [1, 2, 3].map(() => [0.1 + 0.8 * random(), 2 * Math.PI * random()]),
    }));
    return time => waves.map(({ reach, parts }) => reach / 3 * parts.reduce(
      (sum, [rate, phase]) => sum + Math.sin(2 * Math.PI * rate * time + phase), 0));
  };

  /** What lamp and lens do to RGBA pixels in place, as `lighting` of lib/miniature. */
  const lighting = (random, side) => {
    const [level, across, down] = [0.85 + 0.25 * random(), random() - 0.5, random() - 0.5];
    const grain = 0.5 + 2.5 * random();
    const noise = Float32Array.from({ length: 65_537 }, () =>
      grain * 2 * (random() + random() + random() - 1.5)); // about normal
    return pixels => {
      const flicker = 1 + 0.02 * (random() + random() - 1);
      let from = Math.floor(65_537 * random());
      for (let pixel = 0; pixel < side * side; pixel++) {
        const x = pixel % side / side - 0.5;
        const y = Math.floor(pixel / side) / side - 0.5;
        const gain = (level + across * x + down * y) * flicker;
        for (let colour = 4 * pixel; colour < 4 * pixel + 3; colour++) {
          pixels[colour] = pixels[colour] * gain + noise[from]; // clamped by the array
          from = from === 65_536 ? 0 : from + 1;
        }
      }
    };
  };

  const picture = async source => {
    const image = element("img", { src: source });
    await image.decode();
    return image;
  };

  class CamStage extends HTMLElement {
    #props; // pictures of things, hands and places
    #state = { ...REST };
    #held = false;
    #keys = new Set();
    #pointers = new Map();
    #last; // the last gesture: { path, wanted, clip }
    #drawn; // the last clip, which may be that gesture drawn otherwise
    #believed = new Set();
    #running = false;
    #takes = 0;
    #parts = {};
    #chosen = { thing: 0, hand: 0, place: 0 };

    connectedCallback() {
      const live = this.closest("cam-live");
      if (!live || this.#live) return;
      this.#live = live;
      live.addEventListener("cam-live:ready", () => this.#build().catch(error => {
        this.textContent = `The stage could not be set: ${error.message}.`;
      }), { once: true });
      live.addEventListener("cam-live:answer", ({ detail }) => this.#judge(detail));
    }

    #live;
    get gestures() { return GESTURES; }
    get #task() { return GESTURES[this.#parts.task.value]; }

    async #build() {
      const folder = new URL(this.#live.getAttribute("src"), location.href);
      const props = await (await fetch(new URL("stage.json", folder))).json();
      await Promise.all(Object.values(props).flat().map(async prop => {
        prop.image = await picture(prop.image);
        if (prop.shadow) prop.shadow = await picture(prop.shadow);
      }));
      this.#props = props;
      const choice = (label, names, act) => {
        const select = element("select", {}, ...names.map((name, value) =>
          element("option", { value, textContent: name })));
        select.addEventListener("change", () => act(Number(select.value)));
        return [element("label", {}, `${label} `, select), select];
      };
      const part = this.#parts;
      const choose = kind => index => { this.#chosen[kind] = index; this.#draw(); };
      const [tasks, task] = choice("Make it say", GESTURES.map(({ says }) => says), () => this.#set());
      const looks = [["Hand", "hand", "hands"], ["Place", "place", "places"]].map(
        ([label, kind, many]) =>
          choice(label, this.#props[many].map(({ name }) => name), choose(kind))[0]);
      const camera = element("input", { type: "checkbox" });
      Object.assign(part, { task, camera,
        canvas: element("canvas", { width: 2 * this.#side, height: 2 * this.#side, tabIndex: 0,
          role: "img" }),
        hint: element("p", { className: "hint", textContent: "Drag with mouse or finger; wheel or " +
          "two fingers: closer, further; two fingers turn it, too. Keys: arrows, + and −, [ and ] " +
          "to turn." }),
        told: element("p", { className: "told", role: "status" }),
        score: element("span"),
        record: button("Record", () => this.#try(() => this.record())),
        show: button("Show me", () => this.#try(() => this.perform(this.#task))),
        again: button("Start again", () => this.#set()),
        link: button("Copy link", () => this.#copyLink(), { hidden: true }),
        save: button("Save clip", () => this.#try(() => this.#save()), { hidden: true }),
        redo: element("div", { className: "line redo", hidden: true, role: "group",
          ariaLabel: "The same movement, drawn otherwise" }, "The same movement, but",
        button("without the hand", () => this.#try(() => this.#redo("without the hand", { hand: null }))),
        button("another thing", () => this.#try(() => this.#redo("another thing", this.#next("thing")))),
        button("another place", () => this.#try(() => this.#redo("another place", this.#next("place"))))),
      });
      part.canvas.setAttribute("data-lm-suppress-shortcuts", "true");
      const row = (...inside) => element("div", { className: "line" }, ...inside);
      this.append(part.told, element("div", { className: "both" }, element("div", {}, part.canvas),
        element("div", {}, row(tasks), row(part.record, part.show, part.again, part.score), part.hint,
          row(element("label", {}, camera, " move the camera instead")),
          row(this.#search(choose), ...looks), part.redo, row(part.link, part.save))));
      this.#listen(part.canvas);
      this.#set();
      this.#follow();
      this.toggleAttribute("ready", true);
    }

    /** A field to find a thing in by its name. */
    #search(choose) {
      const things = this.#props.things.map(({ name }, index) => ({ index, name, text: name }));
      const list = element("datalist", { id: `${TAG}-things` });
      const field = element("input", { value: things[0].name, placeholder: things[0].name,
        autocomplete: "off", spellcheck: false });
      field.setAttribute("list", list.id);
      things.sort((one, other) => one.name.localeCompare(other.name));
      viewer.offer(field, list, things, ({ index, name }) => {
        field.placeholder = name;
        choose("thing")(index);
      });
      return element("label", {}, "Find a thing ", field, list);
    }

    get #side() { return this.#live.record.size; }
    /** Sets the stage for the chosen task. */
    #set() {
      const { told, camera, canvas } = this.#parts;
      this.#state = { ...REST, ...this.#task.from };
      camera.checked = Boolean(this.#task.camera);
      told.textContent = `${this.#task.name}. Press Record: after three, two, one you have four ` +
        "seconds. Or press Show me.";
      canvas.setAttribute("aria-label", `The stage. ${this.#task.name}. Arrow keys move, plus and ` +
        "minus bring closer and take away, brackets turn.");
      this.#draw();
    }

    async #try(act) {
      const able = on => this.querySelectorAll("button").forEach(one => { one.disabled = !on; });
      await this.#live.try(async () => {
        able(false);
        await act().finally(() => able(true));
      }, this.#parts.told);
    }

    // --- moving things ---

    #listen(canvas) {
      const at = ({ clientX, clientY }) => {
        const { left, top, width } = canvas.getBoundingClientRect();
        const scale = FRAME / width / this.#state.cz;
        return { x: (clientX - left - width / 2) * scale, y: (clientY - top - width / 2) * scale };
      };
      const hold = on => {
        this.#held = on && !this.#parts.camera.checked;
        this.#run();
      };
      canvas.addEventListener("pointerdown", event => {
        canvas.setPointerCapture(event.pointerId);
        this.#pointers.set(event.pointerId, at(event));
        hold(true);
      });
      canvas.addEventListener("pointermove", event => {
        const before = this.#pointers.get(event.pointerId);
        if (!before) return;
        const now = at(event);
        const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
        if (other) {
          const [was, is] = [before, now].map(({ x, y }) => [x - other.x, y - other.y]);
          this.#grow(Math.hypot(...is) / (Math.hypot(...was) || 1));
          this.#turn(Math.atan2(is[1], is[0]) - Math.atan2(was[1], was[0]));
        } else {
          this.#move(now.x - before.x, now.y - before.y);
        }
        this.#pointers.set(event.pointerId, now);
      });
      canvas.addEventListener("lostpointercapture", event => {
        this.#pointers.delete(event.pointerId);
        hold(this.#pointers.size > 0);
      });
      canvas.addEventListener("wheel", event => {
        event.preventDefault();
        this.#grow(Math.exp(-event.deltaY / 700));
        this.#run();
      }, { passive: false });
      canvas.addEventListener("keydown", event => {
        if (!(event.key in CamStage.KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        this.#keys.add(event.key);
        hold(true);
      });
      canvas.addEventListener("keyup", ({ key }) => {
        if (this.#keys.delete(key)) hold(this.#keys.size > 0);
      });
      canvas.addEventListener("blur", () => {
        this.#keys.clear();
        hold(false);
      });
    }

    static KEYS = {
      ArrowLeft: [-1, 0, 0, 0], ArrowRight: [1, 0, 0, 0], ArrowUp: [0, -1, 0, 0],
      ArrowDown: [0, 1, 0, 0], "+": [0, 0, 1, 0], "=": [0, 0, 1, 0], "-": [0, 0, -1, 0],
      "[": [0, 0, 0, -1], "]": [0, 0, 0, 1],
    };

    #move(dx, dy) {
      const [x, y, sign] = this.#parts.camera.checked ? ["cx", "cy", -1] : ["x", "y", 1];
      this.#state[x] = clamp(this.#state[x] + sign * dx, -REACH, REACH);
      this.#state[y] = clamp(this.#state[y] + sign * dy, -REACH, REACH);
    }

    #grow(times) {
      const field = this.#parts.camera.checked ? "cz" : "grown";
      this.#state[field] = clamp(this.#state[field] * times, 0.4, 2.5);
    }

    #turn(by) { this.#state.turn = (this.#state.turn + by) % (2 * Math.PI); } // a link has no more

    /** Lets the hand come or go, and the keys move, as long as there is anything to move. */
    #run() {
      if (this.#running) return;
      this.#running = true;
      let before = performance.now();
      const step = now => {
        const passed = Math.min(0.1, (now - before) / 1000);
        before = now;
        const state = this.#state;
        state.away = clamp(state.away + (this.#held ? -1 : 1) * passed / FETCH, 0, 1);
        for (const key of this.#keys) {
          const [dx, dy, grown, turn] = CamStage.KEYS[key];
          const sign = this.#parts.camera.checked ? -1 : 1; // the camera goes where the arrow points
          this.#move(sign * dx * PACE * passed, sign * dy * PACE * passed);
          this.#grow(Math.exp(0.5 * grown * passed));
          this.#turn(1.4 * turn * passed);
        }
        this.#draw();
        this.#running = this.#keys.size > 0 || this.#pointers.size > 0 ||
          state.away !== (this.#held ? 0 : 1);
        if (this.#running) requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    // --- drawing ---

    #draw(state = this.#eased(this.#state)) {
      const { canvas } = this.#parts;
      this.#paint(canvas.getContext("2d"), canvas.width, state, [0, 0, 0, 0]);
    }

    /** A hand that comes and goes gently. */
    #eased(state) { return { ...state, away: smooth(state.away, 0, 1) }; }

    #paint(context, side, state, [dx, dy, zoom, angle], chosen = this.#chosen) {
      const { things, hands, places } = this.#props;
      const scale = state.cz * Math.exp(zoom) * side / FRAME;
      const camera = new DOMMatrix().translate(side / 2, side / 2)
        .rotate(angle * 180 / Math.PI).scale(scale).translate(-state.cx - dx, -state.cy - dy);
      context.imageSmoothingQuality = "high";
      const put = (matrix, image) => {
        context.setTransform(camera.multiply(matrix));
        context.drawImage(image, 0, 0);
      };
      /** A picture and its shadow; the point `anchor` of it is at (x, y). */
      const lay = ({ image, shadow }, x, y, size, turn, [ax, ay], lift) => {
        const matrix = new DOMMatrix().translate(x, y).rotate(turn * 180 / Math.PI).scale(size)
          .translate(-ax, -ay);
        const aside = new DOMMatrix().translate(2 + 0.3 * lift, 3 + 0.6 * lift).multiply(matrix);
        put(aside.translate(-SHADOW, -SHADOW).scale(4), shadow);
        put(matrix, image);
      };
      put(new DOMMatrix().translate(-WORLD / 2, -WORLD / 2), places[chosen.place].image);
      const { x, y, grown, turn, away } = state;
      const thing = things[chosen.thing];
      const { width, height } = thing.image;
      lay(thing, x, y, grown * SIZE / Math.max(width, height), turn, [width / 2, height / 2],
        4 * (1 - away));
      if (away < 1 && chosen.hand !== null) {
        const { angle, scale, tip, image, shadow } = hands[chosen.hand];
        const back = 0.25 * grown * SIZE + REACH * away;
        lay({ image, shadow }, x - back * Math.cos(angle), y - back * Math.sin(angle),
          grown * scale, angle, tip, 2);
      }
      context.resetTransform();
    }

    // --- recording ---

    /** Three, two, one; then sixteen states of what the reader does, and the network's answer. */
    async record() {
      const { told, canvas } = this.#parts;
      const { frames, fps } = this.#live.record;
      const { x, y, cx, cy } = this.#state; // out of the picture it comes back
      if (Math.hypot(x - cx, y - cy) > 0.7 * FRAME) this.#set();
      told.scrollIntoView({ block: "start" });
      canvas.focus({ preventScroll: true });
      await this.#live.countDown(told);
      told.textContent = "Now: four seconds.";
      const path = [];
      const began = performance.now();
      while (path.length < frames) {
        path.push(this.#eased(this.#state));
        await pause(Math.max(0, path.length / fps - (performance.now() - began) / 1000));
      }
      told.textContent = "Thank you. The network looks …";
      const name = `Take ${++this.#takes}: ${this.#task.name.toLowerCase()}`;
      await this.replay(path, name, { wanted: this.#task.says });
    }

    /** Acts out a stored gesture before the reader's eyes, unless less motion is wanted. */
    async perform(gesture, seed) {
      const { frames, fps } = this.#live.record;
      const path = acted(gesture, frames, fps);
      this.#parts.told.textContent = `${gesture.name}, as the stage would do it.`;
      if (seed === undefined && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
        for (const state of path) {
          this.#draw(state);
          await pause(1 / fps);
        }
      }
      await this.replay(path, `Shown: ${gesture.name.toLowerCase()}`,
        { wanted: gesture.says, shown: true, seed });
    }

    /** Draws a path as a clip, in the manner of the drawn clips, and asks the network about it. */
    async replay(path, name, { chosen = this.#chosen, wanted, shown = false, beside = true,
      seed = Math.floor(1e9 * Math.random()) } = {}) {
      const side = this.#side;
      const canvas = element("canvas", { width: side, height: side });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      const random = chance(seed);
      const [sway, light] = [handheld(random), lighting(random, side)];
      const pixels = new Uint8ClampedArray(path.length * side * side * 4);
      for (const [frame, state] of path.entries()) {
        this.#paint(context, side, state, sway(frame / this.#live.record.fps), chosen);
        const drawn = context.getImageData(0, 0, side, side).data;
        light(drawn);
        pixels.set(drawn, frame * drawn.length);
        await pause(0); // the page goes on
      }
      const clip = { name, pixels, beside, wanted, shown };
      if (beside === true) this.#last = { path, wanted, clip };
      this.#drawn = clip;
      this.#parts.redo.hidden = this.#parts.link.hidden = false;
      this.#parts.save.hidden = !viewer.webm;
      await this.#live.explain(clip);
      this.#draw();
    }

    #next(kind) {
      return { [kind]: (this.#chosen[kind] + 1) % this.#props[`${kind}s`].length };
    }

    #redo(name, change) {
      const { path, wanted, clip } = this.#last;
      const chosen = { ...this.#chosen, ...change };
      return this.replay(path, `The same, ${name}`, { chosen, wanted, shown: true, beside: clip });
    }

    /** Did it believe the gesture? */
    #judge({ clip, top, change }) {
      if (!clip.wanted || change) return;
      const { told, score, task } = this.#parts;
      const place = top.findIndex(({ name }) => name === clip.wanted);
      if (place === 0 && !clip.shown) this.#believed.add(clip.wanted);
      const verdict = place === 0 ? "It believes it" : place === 1 ? "Nearly: its second guess" :
        "It saw something else";
      score.textContent = `Believed: ${this.#believed.size} of ${GESTURES.length}`;
      told.textContent = `${verdict}. It says ${top[0].name}.`;
      if (place === 0 && !clip.shown && task.value === "0" && clip.wanted === this.#task.says) {
        task.value = "1";
        this.#set();
        told.textContent = `${verdict}: ${top[0].name}. ${this.#parts.told.textContent}`;
      }
    }

    /** Plays the last clip once, at its own pace, into a video. */
    async #save() {
      const { told } = this.#parts;
      const { name, pixels } = this.#drawn;
      const { frames, fps, size } = this.#live.record;
      const canvas = element("canvas", { width: size, height: size });
      const context = canvas.getContext("2d");
      const each = 4 * size * size; // numbers in a frame
      told.textContent = `Saving “${name}”: it is played once, ${frames / fps} seconds.`;
      await viewer.film(canvas, frames, at => context.putImageData(new ImageData(
        pixels.subarray(at * each, (at + 1) * each), size), 0, 0), 1 / fps, name);
      told.textContent = `Saved: “${name}”.`;
    }

    // --- a link that holds the gesture, not the pictures ---

    get link() {
      const numbers = Int16Array.from(this.#last.path.flatMap(state =>
        FIELDS.map((field, place) => Math.round(state[field] * FINE[place]))));
      const text = btoa(String.fromCharCode(...new Uint8Array(numbers.buffer)));
      return `${location.href.split("#")[0]}#act=${encodeURIComponent(text)}`;
    }

    async #copyLink() {
      this.#parts.told.textContent = await viewer.copy(this.link) ?
        "The link to this gesture is copied." : "The page's address now holds this gesture.";
    }

    /** Acts out what the page's address holds. */
    #follow() {
      const text = new URLSearchParams(location.hash.slice(1)).get("act");
      if (!text) return;
      try {
        const raw = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        const numbers = new Int16Array(raw.buffer);
        const { frames } = this.#live.record;
        if (numbers.length !== frames * FIELDS.length) throw new Error("of another length");
        const path = Array.from({ length: frames }, (_, frame) => Object.fromEntries(
          FIELDS.map((field, place) =>
            [field, numbers[frame * FIELDS.length + place] / FINE[place]])));
        this.#try(() => this.replay(path, "A gesture from a link"));
      } catch {
        this.#parts.told.textContent = "The gesture in the page's address is damaged.";
      }
    }
  }

  define(TAG, CamStage, STYLE);
})();
