"use strict";

// Everything that a model or a user wrote goes through text nodes: nothing here parses HTML.

/** An element with attributes and children; strings become text, their control characters visible. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  for (const child of children) {
    if (typeof child !== "string") made.append(...(child === null ? [] : [child]));
    else if (name === "option") made.append(printable(child)); // An option holds no elements.
    else made.append(...visible(child));
  }
  return made;
}

// Controls that hide text, or change the direction of what stands around it. Tab and newline stay.
// The same as in cory.io.terminal; halves of characters are single code points here only.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\u200b\u2060-\u2065\ufeff\ud800-\udfff\u{e0000}-\u{e007f}]/u;

/** Text as nodes: control characters are shown by their number instead of acting. */
function visible(text) {
  return text.split(new RegExp(`(${CONTROLS.source})`, "u")).filter(Boolean).map((piece) =>
    CONTROLS.test(piece) ? element("span", { class: "control" }, codePoint(piece)) : document.createTextNode(piece));
}

/** The same as a string, for where no elements can stand. */
function printable(text) {
  return text.replace(new RegExp(CONTROLS.source, "gu"), (sign) => `<${codePoint(sign)}>`);
}

function codePoint(sign) {
  return `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A number with a fixed number of decimals and a real minus sign. */
function decimals(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** The same with a plus sign where it is positive. */
function signed(value, digits = 2) {
  return (value > 0 ? "+" : "") + decimals(value, digits);
}

/** A labelled select; `options` maps values to what is shown. */
function selection(label, options, change) {
  // A label's own text would include every option.
  const select = element("select", { "aria-label": label, onchange: () => change(select.value) });
  for (const [value, shown] of options) select.append(element("option", { value }, shown));
  return element("label", {}, element("span", { class: "name" }, label), select);
}

/** Order of two values, numbers or texts; those that are missing come last in either direction. */
function compare(left, right, direction) {
  const missing = (left ?? null) === null ? 1 : 0;
  const other = (right ?? null) === null ? 1 : 0;
  if (missing || other) return missing - other;
  if (typeof left === "number" && typeof right === "number") return direction * (left - right);
  return direction * String(left).localeCompare(String(right), "en", { numeric: true });
}
