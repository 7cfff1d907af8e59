// <clip-gallery>: short silent clips that play while they are on screen. Printed by gallery.py.
//
// Nothing moves by itself for readers who asked for less motion. One button plays or pauses all of
// them; a click, Enter or the space bar on a clip plays or pauses that one.
(() => {
  const TAG = "clip-gallery";
  if (customElements.get(TAG)) return; // every output prints this script; the first one counts

  const STYLE = `
    clip-gallery { display: grid; gap: .75rem .6rem; margin: .5rem 0; color-scheme: light dark;
      grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); }
    clip-gallery figure { margin: 0; padding: 0; color: inherit; }
    clip-gallery video { display: block; width: 100%; height: auto; border-radius: 6px; }
    clip-gallery figure > button { display: block; width: 100%; padding: 0; border: 0;
      background: none; cursor: pointer; border-radius: 6px; }
    clip-gallery figure > button:focus-visible { outline: 3px solid #0a72c4; outline-offset: 2px; }
    clip-gallery figure figcaption { font-size: .75rem; font-weight: 400; line-height: 1.3;
      margin: .25rem 0 0; padding: 0; text-align: start; color: inherit; }
    clip-gallery > button { grid-column: 1 / -1; justify-self: start; font: inherit;
      padding: .25rem .75rem; border: 1px solid #767b85; border-radius: 6px; cursor: pointer;
      background: transparent; color: inherit; }
    .text_html:has(clip-gallery) { background: none !important; color: inherit !important;
      padding: 0 !important; }`;

  class ClipGallery extends HTMLElement {
    #all = Object.assign(document.createElement("button"), { type: "button" });
    #playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    #seen = new Set();
    #watch = new IntersectionObserver(entries => {
      for (const { target, isIntersecting } of entries) {
        this.#seen[isIntersecting ? "add" : "delete"](target);
        this.#play(target, this.#playing && isIntersecting);
      }
    });

    connectedCallback() {
      // The element may be met before its clips are read.
      const start = () => this.#start();
      if (document.readyState !== "loading") queueMicrotask(start);
      else addEventListener("DOMContentLoaded", start, { once: true });
    }

    #start() {
      if (this.#all.isConnected) return;
      const label = () => { this.#all.textContent = this.#playing ? "Pause all" : "Play all"; };
      this.#all.addEventListener("click", () => {
        this.#playing = !this.#playing;
        this.#seen.forEach(video => this.#play(video, this.#playing));
        label();
      });
      label();
      this.prepend(this.#all);
      for (const video of this.querySelectorAll("video")) {
        video.removeAttribute("controls");
        video.muted = true; // the attribute does not count for elements made by a script
        const button = Object.assign(document.createElement("button"),
          { type: "button", ariaLabel: video.ariaLabel });
        button.setAttribute("data-lm-suppress-shortcuts", ""); // else JupyterLab takes the keys
        button.addEventListener("click", () => this.#play(video, video.paused));
        video.replaceWith(button);
        button.append(video);
        this.#watch.observe(video);
      }
    }

    #play(video, on) {
      const press = pressed => video.parentElement.setAttribute("aria-pressed", String(pressed));
      press(on);
      if (on) video.play().catch(() => press(false));
      else video.pause();
    }
  }

  const style = new CSSStyleSheet();
  style.replaceSync(STYLE);
  document.adoptedStyleSheets.push(style);
  customElements.define(TAG, ClipGallery);
})();
