"use strict";
// Puts arms out and lights them, chooses the axis, and tells what stands under the pointer.
const { columns, arms } = JSON.parse(document.getElementById("data").textContent);
const plots = document.querySelector(".plots") ?? document.createElement("section");
const tip = plots.querySelector(".tip");
const [loss, lowest, highest] = ["loss", "low", "high"].map((name) => columns.indexOf(name));
const lit = arms.map(() => true);

for (const box of plots.querySelectorAll("input[data-arm]")) {
  box.addEventListener("change", () => {
    lit[box.dataset.arm] = box.checked;
    for (const line of plots.querySelectorAll(`.line[data-arm="${box.dataset.arm}"]`)) line.classList.toggle("off", !box.checked);
  });
}
for (const choice of plots.querySelectorAll("input[name=axis]")) {
  choice.addEventListener("change", () => {
    for (const plot of plots.querySelectorAll(".plot")) plot.hidden = plot.dataset.axis !== choice.value;
    tip.hidden = true;
  });
}

const words = (number) => (number >= 1e13 ? number.toExponential(2) : number >= 1e6 ? (number / 1e6).toPrecision(4) + " M" : number.toPrecision(4));

// The line's point that is nearest along the axis.
function nearest(points, axis, x) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][axis] < x) low = middle; else high = middle;
  }
  return x - points[low][axis] < points[high][axis] - x ? points[low] : points[high];
}

function row(values) {
  const line = document.createElement("tr");
  for (const value of values) line.appendChild(document.createElement("td")).textContent = value;
  return line;
}

for (const plot of plots.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const axis = columns.indexOf(plot.dataset.axis);
  const [left, , right] = svg.dataset.area.split(" ").map(Number);
  const most = Number(svg.dataset.x);
  const pointer = svg.querySelector(".pointer");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const inside = place >= left && place <= right;
    svg.classList.toggle("pointed", inside);
    tip.hidden = !inside;
    if (!inside) return;
    pointer.setAttribute("x1", place);
    pointer.setAttribute("x2", place);
    const x = ((place - left) / (right - left)) * most;
    const table = document.createElement("table");
    table.appendChild(row([words(x), "loss", "of all seeds"]));
    const shown = arms.filter((arm, number) => lit[number] && arm.points.length && arm.points.at(-1)[axis] >= x * 0.98);
    const found = shown.map((arm) => [arm.arm, nearest(arm.points, axis, x)]).sort((a, b) => a[1][loss] - b[1][loss]);
    for (const [arm, point] of found.slice(0, 14)) table.appendChild(row([arm, point[loss].toFixed(4), `${point[lowest].toFixed(3)} to ${point[highest].toFixed(3)}`]));
    tip.replaceChildren(table);
    const around = tip.parentElement.getBoundingClientRect();
    const side = event.clientX - around.left;
    tip.style.left = `${side < around.width / 2 ? side + 16 : Math.max(0, side - tip.offsetWidth - 16)}px`;
    tip.style.top = `${event.clientY - around.top + 12}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; svg.classList.remove("pointed"); });
}
