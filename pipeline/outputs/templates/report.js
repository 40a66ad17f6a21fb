"use strict";
// The numbers behind the shapes: the title of whatever is under the pointer, at once.
const tip = document.getElementById("tip");
document.addEventListener("pointermove", (event) => {
  const shape = event.target.closest && event.target.closest(".hit, .bar, [data-tip]");
  if (!shape) { tip.hidden = true; return; }
  const title = shape.querySelector("title");
  if (title) { shape.dataset.tip = title.textContent; shape.setAttribute("aria-label", title.textContent); title.remove(); }
  if (!shape.dataset.tip) { tip.hidden = true; return; }
  tip.textContent = shape.dataset.tip;
  tip.hidden = false;
  const right = event.clientX + 14 + tip.offsetWidth > window.innerWidth;
  tip.style.left = Math.max(4, right ? event.clientX - tip.offsetWidth - 12 : event.clientX + 14) + "px";
  tip.style.top = Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 4) + "px";
});
// Heat maps on and off.
for (const box of document.querySelectorAll("input[data-heat]")) {
  box.addEventListener("change", () => { document.getElementById(box.dataset.heat).hidden = !box.checked; });
}
// The list of events: rows that hold every word.
const search = document.getElementById("search");
if (search) {
  const rows = [...document.querySelectorAll("#events tbody tr")];
  const count = document.getElementById("search-count");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? shown + " of " + rows.length : "";
  });
}
// On paper nothing is folded away.
window.addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
