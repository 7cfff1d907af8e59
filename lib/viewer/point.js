// <cam-point>: clips without their heat, until the reader has said where and when the action is.
// Printed by point.py. Then reader and rivals are marked alike, by the truth's bits and the frames
// of the action, and the clip's <cam-viewer>, kept out of the page so far, comes into the slot.
(() => {
  const TAG = "cam-point";
  if (customElements.get(TAG)) return; // every output prints this script; the first one counts

  const SIDE = 320; // pixels of a picture
  const STYLE = `viewer.css
    .card { display: block; padding: .9rem; }
    .ask { max-width: 24rem; margin: .6rem auto; }
    p { margin: 0 0 .6rem; }
    canvas { display: block; width: 100%; border-radius: 6px; }
    .stage { touch-action: manipulation; }
    .transport { margin: .6rem 0; }
    input.time { flex: 1; min-width: 4rem; }
    .help, .place { color: var(--muted); font-variant-numeric: tabular-nums; }
    .three { display: grid; gap: .6rem; margin-bottom: .6rem; max-width: 34rem;
      grid-template-columns: repeat(auto-fit, minmax(5.5rem, 1fr)); }
    figure { margin: 0; } figcaption span { display: block; }
    table { margin-bottom: .6rem; } th, td { padding: .2rem 1.2rem .2rem 0; text-align: start; }
    slot { display: block; margin-top: .75rem; }`;
  const TEMPLATE = `<style>${STYLE}</style>
    <div class="card" role="group" aria-label="Point first">
      <p class="question" id="question"></p>
      <div class="ask">
        <div class="stage" tabindex="0" role="application" aria-describedby="question"
          aria-label="The clip: arrow keys move a mark, page up and down change the frame, space
          plays and pauses, Enter answers"><canvas></canvas></div>
        <div class="transport"><button class="play" type="button"></button>
          <input class="time" type="range" min="0" aria-label="Frame"><span class="place"></span>
        </div>
        <p class="help">Stop while it happens, then press on the picture where it happens. Without a
          mouse: arrow keys for the place, page up and down for the time, Enter.</p>
      </div>
      <div class="three"></div>
      <p class="said" role="status"></p>
      <div class="score"></div>
      <button class="next" type="button"></button>
    </div><slot></slot>`;

  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
  const escape = text => text.replace(/[&<]/g, sign => `&#${sign.charCodeAt(0)};`);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const both = ({ place, time }) => place && time;
  const verdict = mark => both(mark) ? "right in place and in time" : mark.place ?
    "right in place, not in time" : mark.time ? "right in time, not in place" : "wrong in both";

  class CamPoint extends HTMLElement {
    #clips; // of each its viewer, picture, data, frames of the action and peaks of the rivals
    #names; // the reader and the rivals
    #parts; // of the shadow tree, by class
    #marks = []; // of each clip answered, for each name: { place, time }
    #now; // the clip that is asked
    #frame = 0;
    #at = null; // [y, x] of the mark that the keys move, as shares of the frame
    #playing = false;
    #timer;
    #inSight = false;
    #sight = new IntersectionObserver(changes => {
      this.#inSight = changes.at(-1).isIntersecting;
      this.#draw();
    });

    connectedCallback() {
      const wait = document.readyState === "loading" && !this.lastElementChild; // not read yet
      if (wait) addEventListener("DOMContentLoaded", () => this.#start(), { once: true });
      else this.#start();
    }

    disconnectedCallback() {
      this.#sight.disconnect();
      clearTimeout(this.#timer);
    }

    async #start() {
      if (this.#clips) return this.#parts && this.#sight.observe(this);
      const read = parent => JSON.parse(parent.querySelector("script").textContent);
      const { rivals, clips } = read(this);
      this.#names = ["you", ...rivals];
      this.#clips = [...this.querySelectorAll("cam-viewer")].map((viewer, clip) => (
        { ...clips[clip], viewer, data: read(viewer), picture: viewer.querySelector("img") }));
      for (const { viewer, data: { mask } } of this.#clips) {
        const bits = atob(mask.bits);
        mask.on = place => bits.charCodeAt(place >> 3) >> (7 - (place & 7)) & 1;
        viewer.remove();
      }
      await Promise.all(this.#clips.map(({ picture }) => picture.decode()));
      const root = this.attachShadow({ mode: "open" });
      root.innerHTML = TEMPLATE;
      this.#parts = Object.fromEntries(
        [...root.querySelectorAll("[class]")].map(part => [part.classList[0], part]));
      this.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's, on the same keys
      const { stage, play, time, next } = this.#parts;
      root.addEventListener("keydown", event => this.#onKey(event));
      stage.addEventListener("click", ({ clientX, clientY }) => {
        const { left, top, width, height } = stage.getBoundingClientRect();
        this.#answer([(clientY - top) / height, (clientX - left) / width]);
      });
      play.addEventListener("click", () => this.#go(this.#frame, !this.#playing));
      time.addEventListener("input", () => this.#go(Number(time.value)));
      next.addEventListener("click", () => {
        if (this.#marks.length === this.#clips.length) this.#marks = [];
        this.#ask();
        stage.focus();
      });
      this.#ask();
      this.#sight.observe(this);
      this.toggleAttribute("ready", true);
    }

    #ask() {
      this.#now = this.#clips[this.#marks.length];
      this.#at = null;
      const { classes, label, times } = this.#now.data;
      const { question, time, ask, next, three, said, score } = this.#parts;
      const name = label === null ? "" : `: <b>${escape(classes[label])}</b>`;
      question.innerHTML = `Clip ${this.#marks.length + 1} of ${this.#clips.length}${name}. ` +
        "Where does it happen, and when?";
      time.max = times.length - 1;
      for (const part of [three, said, score]) part.replaceChildren();
      this.replaceChildren();
      [ask.hidden, next.hidden] = [false, true];
      this.#go(0, !still);
    }

    #go(frame, playing = false) {
      this.#playing = playing;
      this.#frame = clamp(frame, 0, this.#now.data.times.length - 1);
      this.#draw();
    }

    #onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") return;
      event.stopPropagation(); // books turn the page on an arrow key
      const { stage, said } = this.#parts;
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
        Enter: [0, 0] }[event.key];
      const turn = { PageUp: -1, PageDown: 1 }[event.key];
      if (event.target !== stage || !(step || turn || event.key === " ")) return;
      event.preventDefault();
      if (event.key === " ") return this.#go(this.#frame, !this.#playing);
      if (event.key === "Enter" && this.#at) return event.repeat || this.#answer(this.#at);
      if (step) this.#at = (this.#at ?? [0.5, 0.5]).map((at, i) => clamp(at + step[i] / 32, 0, 1));
      this.#go(this.#frame + (turn ?? 0));
      const [y, x] = this.#at?.map(share => `${Math.round(100 * share)}%`) ?? [];
      said.textContent = `Frame ${this.#frame + 1}` +
        (y ? `, ${x} from the left, ${y} from the top. Enter answers.` : "");
    }

    /** The clip as it is now, and as it goes on where it plays. */
    #draw() {
      const { stage, play, time, place, ask } = this.#parts;
      this.#paint(stage.firstElementChild, this.#frame, this.#at);
      play.textContent = this.#playing ? "❚❚ Pause" : "▶ Play";
      const { times } = this.#now.data;
      place.textContent = `${this.#frame + 1} of ${times.length}`;
      time.value = this.#frame;
      time.setAttribute("aria-valuetext", place.textContent);
      clearTimeout(this.#timer);
      if (!this.#playing || !this.#inSight || ask.hidden) return;
      const pace = 1000 * (times.at(-1) - times[0]) / (times.length - 1) || 250;
      this.#timer = setTimeout(() => this.#go((this.#frame + 1) % times.length, true), pace);
    }

    /** A frame with a mark on it; with `dim`, what does not move is darker. */
    #paint(canvas, frame, at, dim = false) {
      const { picture, data: { sheet, mask } } = this.#now;
      const [width, height] = [SIDE, SIDE * sheet.height / sheet.width];
      Object.assign(canvas, { width, height });
      const [column, row] = [frame % sheet.columns, Math.floor(frame / sheet.columns)];
      const paper = canvas.getContext("2d");
      paper.drawImage(picture, column * sheet.width, row * sheet.height, sheet.width, sheet.height,
        0, 0, width, height);
      paper.fillStyle = "rgb(0 0 0 / 0.55)";
      const [, rows, columns] = mask.shape;
      for (let cell = 0; dim && cell < rows * columns; cell++) {
        if (mask.on(frame * rows * columns + cell)) continue;
        const [left, top] = [cell % columns, Math.floor(cell / columns)];
        paper.fillRect(left * width / columns, top * height / rows, width / columns, height / rows);
      }
      for (const [strokeStyle, lineWidth] of at ? [["black", 8], ["white", 4]] : []) {
        Object.assign(paper, { strokeStyle, lineWidth });
        for (const radius of dim ? [3, 24] : [2, 16]) {
          paper.beginPath();
          paper.arc(at[1] * width, at[0] * height, radius, 0, 7);
          paper.stroke();
        }
      }
    }

    /** Is the point on what moves, and is its frame one of the action? */
    #mark([frame, ...at]) {
      const { acting: [first, last], data: { mask: { shape: [, ...sides], on } } } = this.#now;
      const [row, column] = at.map((share, i) =>
        clamp(Math.floor(share * sides[i]), 0, sides[i] - 1));
      return { place: on((frame * sides[0] + row) * sides[1] + column) === 1,
        time: frame >= first && frame <= last };
    }

    #answer(at) {
      const { viewer, peaks, acting: [first, last] } = this.#now;
      const { three, said, ask, next } = this.#parts;
      const points = [[this.#frame, ...at], ...peaks];
      const marks = points.map(answer => this.#mark(answer));
      const told = (right, what) => `<span class="${right ? "right" : "wrong"}">` +
        `${right ? "✓" : "✗"} ${what}</span>`;
      three.replaceChildren(...points.map(([frame, ...place], who) => {
        const figure = document.createElement("figure");
        figure.innerHTML = `<canvas role="img" aria-label="Frame ${frame + 1} with the mark; what
          does not move is dark"></canvas><figcaption><b>${escape(this.#names[who])}</b>, frame
          ${frame + 1}${told(marks[who].place, "place")}${told(marks[who].time, "time")}`;
        this.#paint(figure.firstChild, frame, place, true);
        return figure;
      }));
      const verdicts = this.#names.map((name, who) => `${name}: ${verdict(marks[who])}`).join("; ");
      said.textContent = `${verdicts.replace("y", "Y")}. The action lasts from frame ` +
        `${first + 1} to ${last + 1}.`;
      const over = this.#marks.push(marks) === this.#clips.length;
      next.textContent = over ? "Start again" : "Next clip";
      [ask.hidden, next.hidden] = [true, false];
      if (over) this.#showScore();
      this.#draw();
      this.append(viewer);
      next.focus({ preventScroll: true });
    }

    #showScore() {
      const clips = this.#clips.length;
      const count = (who, good) => this.#marks.filter(marks => good(marks[who])).length;
      const rows = this.#names.map((name, who) => `<tr><th scope="row">${escape(name)}</th>${
        [({ place }) => place, ({ time }) => time, both].map(good => `<td>${count(who, good)}</td>`)
          .join("")}</tr>`);
      this.#parts.score.innerHTML = `<table><thead><tr><th scope="col">right, of ${clips} clips</th>
        <th scope="col">place</th><th scope="col">time</th><th scope="col">both</th></tr></thead>
        <tbody>${rows.join("")}</tbody></table>`;
      this.#parts.said.textContent += ` Right in both: ${this.#names.map((name, who) =>
        `${name} ${count(who, both)}`).join("; ")}, of ${clips} clips.`;
    }
  }

  customElements.define(TAG, CamPoint);
})();
