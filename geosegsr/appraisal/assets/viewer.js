// The comparison: two pictures in one element that pans and zooms, the upper one cut at the handle.
"use strict";
(() => {
  const views = JSON.parse(document.getElementById("views").textContent);
  const at = (id) => document.getElementById(id);
  const [stage, layers, left, right, slider, line] = ["stage", "layers", "left", "right", "slider", "line"].map(at);
  const THUMB = 44;
  const PAN = 60;
  let current = 0;
  let side = "source";

  const zoomer = Panzoom(layers, { maxScale: 64, minScale: 0.5, step: 0.4, animate: false, excludeClass: "panzoom-exclude" });

  // Where the handle's middle is, in pixels of the stage.
  const border = () => THUMB / 2 + (slider.value / 100) * (stage.clientWidth - THUMB);

  function cut() {
    const x = border();
    const picture = layers.getBoundingClientRect();
    const from = x + stage.getBoundingClientRect().left - picture.left;
    const share = Math.min(Math.max(from / picture.width, 0), 1) * 100;
    right.style.clipPath = `inset(0 0 0 ${share}%)`;
    line.style.left = `${x}px`;
    const magnified = picture.width / views[current].width;
    right.style.imageRendering = magnified > 2 ? "pixelated" : "auto";
    left.style.imageRendering = side === "source" || magnified > 2 ? "pixelated" : "auto";
  }

  function fit() {
    const view = views[current];
    const ratio = Math.min(stage.clientWidth / view.width, stage.clientHeight / view.height);
    layers.style.width = `${view.width * ratio}px`;
    layers.style.height = `${view.height * ratio}px`;
    zoomer.reset();
    cut();
  }

  function show(number) {
    current = (number + views.length) % views.length;
    const view = views[current];
    left.src = view[side];
    right.src = view.result;
    at("caption").textContent = `${view.title}: ${view.about}`;
    document.querySelectorAll("[data-view]").forEach((button) => {
      button.setAttribute("aria-current", String(Number(button.dataset.view) === current));
    });
    fit();
  }

  function choose(name) {
    side = name;
    at("before").textContent = name === "source" ? "Input" : "Bicubic";
    document.querySelectorAll("[data-side]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.side === name));
    });
    left.src = views[current][side];
    cut();
  }

  const zoom = { in: () => zoomer.zoomIn(), out: () => zoomer.zoomOut(), fit };
  const pans = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };
  const keys = {
    "+": zoom.in, "=": zoom.in, "-": zoom.out, 0: fit,
    1: () => choose("source"), 2: () => choose("bicubic"), n: () => show(current + 1), p: () => show(current - 1),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.activeElement === stage && pans[event.key]) {
      const [x, y] = pans[event.key];
      zoomer.pan(x / zoomer.getScale(), y / zoomer.getScale(), { relative: true });
      event.preventDefault();
    } else if (keys[event.key]) {
      keys[event.key]();
      event.preventDefault();
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { side: name, zoom: kind, step, view } = button.dataset;
    if (name) choose(name);
    if (kind) zoom[kind]();
    if (step) show(current + Number(step));
    if (view) show(Number(view));
  });
  stage.addEventListener("wheel", zoomer.zoomWithWheel, { passive: false });
  layers.addEventListener("panzoomchange", () => requestAnimationFrame(cut));
  slider.addEventListener("input", cut);
  addEventListener("resize", fit);
  document.querySelectorAll("[data-view] img").forEach((picture, number) => {
    picture.src = views[number].result;
  });
  show(0);
})();
