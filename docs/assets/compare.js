// A pair of pictures in <figure class="compare">: the handle says where the upper one is cut.
"use strict";
document.addEventListener("input", (event) => {
  const figure = event.target.closest("figure.compare");
  if (figure) figure.style.setProperty("--at", `${event.target.value}%`);
});
