// The viewer as an ES module for anywidget's hosts. viewer.js stands before it; the model's "html"
// is what viewer.py prints, and its "shown" becomes { frame, classIndex, mode } when that changes.
export default {
  render({ model, el }) {
    const show = () => { el.innerHTML = model.get("html"); };
    show();
    model.on("change:html", show);
    el.addEventListener("cam-viewer:change", ({ detail }) => {
      model.set("shown", detail);
      model.save_changes();
    });
    return () => model.off("change:html", show);
  },
};
