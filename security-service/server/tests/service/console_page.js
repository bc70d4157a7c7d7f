// What is wrong with the page that is shown, as sentences: for whoever hears it, uses no mouse, or has a narrow screen; and what no text may do.
const wrong = [];
const say = (what, element) =>
  wrong.push(element ? `${what}: ${element.outerHTML.slice(0, 160)}` : what);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const seen = (element) => {
  if (!element.getClientRects().length) return false;
  const style = getComputedStyle(element);
  return style.visibility !== "hidden" && !element.closest(".unseen, .skip");
};
const name = (element) => {
  const by = (element.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
  const labelled = by.map((id) => document.getElementById(id)?.textContent || "").join(" ");
  return (element.getAttribute("aria-label") || labelled || element.textContent || "").trim();
};

// Nothing of a text has become markup.
if (window.ran !== undefined) say("a text has run");
if (all("x-injected, iframe, object, embed, img").length) say("a text is markup");
all("script").forEach((one) => { if (!one.src.includes("/console/assets/")) say("script", one); });
all("*").forEach((one) => {
  for (const { name } of one.attributes) {
    if (name.startsWith("on") || name === "style") say(`attribute ${name}`, one);
  }
});
if (/[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/.test(document.documentElement.textContent)) say("an unseen character");

// Structure.
if (!document.documentElement.lang) say("no language");
if (!document.title.trim()) say("no title");
if (all("h1").length !== 1) say(`${all("h1").length} headings of the first level`);
let level = 0;
for (const heading of all("h1, h2, h3, h4, h5, h6").filter(seen)) {
  const next = Number(heading.tagName[1]);
  if (next > level + 1) say(`heading jumps from ${level} to ${next}`, heading);
  if (!name(heading)) say("empty heading", heading);
  level = next;
}
for (const [selector, count] of [["main", 1], ["body > header", 1], ["body > footer", 1]]) {
  if (all(selector).length !== count) say(`${all(selector).length} of ${selector}`);
}
const navs = all("nav").filter(seen).map((nav) => nav.getAttribute("aria-label"));
if (navs.some((label) => !label) || new Set(navs).size !== navs.length) say("navigations without labels of their own");
const ids = all("[id]").map((one) => one.id);
ids.filter((id, index) => ids.indexOf(id) !== index).forEach((id) => say(`id ${id} twice`));
all("[aria-labelledby], [for]").forEach((one) => {
  const names = one.getAttribute("aria-labelledby") || one.getAttribute("for");
  names.split(" ").forEach((id) => { if (!document.getElementById(id)) say(`refers to no ${id}`, one); });
});
const regions = all("section, [role=region]").filter((one) => seen(one) && !one.classList.contains("empty")).map(name);
regions.filter((one, index) => regions.indexOf(one) !== index).forEach((one) => say(`two regions are named ${one}`));
all("section").forEach((one) => { if (!one.classList.contains("empty") && !name(one)) say("section without name", one); });

// Names.
all("a[href], button, summary").filter(seen).forEach((one) => { if (!name(one)) say("no name", one); });
all("input:not([type=hidden]), select, textarea").forEach((one) => { if (!one.labels?.length) say("no label", one); });
all("svg").forEach((one) => {
  const hidden = one.closest("[aria-hidden=true]");
  if (!hidden && !(one.getAttribute("role") === "img" && name(one) && one.querySelector("title") && one.querySelector("desc"))) say("picture without a name", one);
});
all("table").forEach((one) => {
  if (!one.caption?.textContent.trim()) say("table without caption", one);
  all("th", one).forEach((head) => { if (!head.scope) say("head without scope", head); });
});
all(".status").forEach((one) => { if (!one.textContent.trim() || !one.querySelector("svg use")) say("status without word or shape", one); });

// Keyboard.
if (all("[tabindex]").some((one) => one.tabIndex > 0)) say("an order of its own");
const stops = all("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']");
if (!stops[0]?.classList.contains("skip")) say("the first stop does not lead to the content", stops[0]);
for (const stop of stops.filter(seen)) {
  stop.focus({ focusVisible: true });
  const style = getComputedStyle(stop);
  if (document.activeElement === stop && (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2)) say("focus is not seen", stop);
}
all(".scroll").forEach((one) => { if (one.tabIndex !== 0 || !name(one)) say("cannot be scrolled by keyboard", one); });
document.activeElement?.blur();
window.scrollTo(0, 0);

// Contrast (WCAG 2.2, 1.4.3), of each text on what is drawn behind it.
const parse = (text) => {
  const numbers = text.match(/[\d.]+/g)?.map(Number) || [0, 0, 0, 0];
  return numbers.length === 3 ? [...numbers, 1] : numbers;
};
const luminance = ([r, g, b]) => {
  const part = (value) => { const s = value / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const color = parse(getComputedStyle(one).backgroundColor);
    if (color[3] === 1) return color;
    if (color[3] > 0) say("a ground that is half seen", one);
  }
  return [255, 255, 255, 1];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.data.trim() || !seen(element) || element.closest("svg")) continue;
  const style = getComputedStyle(element);
  const [a, b] = [luminance(parse(style.color)), luminance(behind(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, element);
}

// Room.
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) say(`the page is ${document.documentElement.scrollWidth} wide and has ${width}`);
all("main *, header *, footer *").filter(seen).forEach((one) => {
  if (one.closest(".scroll, .pem, svg") && !one.matches(".scroll")) return;
  const box = one.getBoundingClientRect();
  if (box.right > width + 1 || box.left < -1) say(`reaches from ${Math.round(box.left)} to ${Math.round(box.right)} of ${width}`, one);
});
if (width < 700) {
  all(".scroll").filter(seen).forEach((one) => { if (one.scrollWidth > one.clientWidth + 1 && !one.querySelector("table:not(.stacks)")) say("a table that is a list is too wide", one); });
}
return wrong;
