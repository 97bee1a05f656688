// @ts-check
// Elements from data, and a view brought up to date without losing focus, scroll or what somebody is typing.
//
// Nothing here, or anywhere in the page, makes HTML out of text: a CSV full of tags shows as what it is.

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */
/** @typedef {(event: any) => unknown} Handler */
/** @typedef {Record<string, string | number | boolean | null | undefined | Handler>} Attributes */

const SVG = "http://www.w3.org/2000/svg";

/** What each element does on an event; read when the event comes, so that a newer view's handlers can take its place.
 * @type {WeakMap<Element, Record<string, Handler>>} */
const handlers = new WeakMap();

/** @param {Event} event */
function dispatch(event) {
  const element = /** @type {Element} */ (event.currentTarget);
  handlers.get(element)?.[event.type]?.(event);
}

/**
 * An element. `onclick` and the like are functions, `true` and `false` set or leave out an attribute, children that are
 * `null` or `false` are left out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/**
 * An element of a picture.
 * @param {string} name
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(name, attributes = {}, ...children) {
  return fill(/** @type {SVGElement} */ (document.createElementNS(SVG, name)), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {E}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      listen(element, name.replace(/^on/, ""), value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  append(element, children);
  return element;
}

/** @param {Element} element @param {string} type @param {Handler} handler */
function listen(element, type, handler) {
  const known = handlers.get(element) ?? {};
  if (!(type in known)) element.addEventListener(type, dispatch);
  known[type] = handler;
  handlers.set(element, known);
}

/** @param {Element} parent @param {Child[]} children */
function append(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(parent, child);
    else if (child !== null && child !== undefined && child !== false) {
      parent.append(child instanceof Node ? child : String(child));
    }
  }
}

/**
 * Brings `parent` to these children, with as little change as can be: an element that stays keeps its focus, its
 * scroll and its typed text. So the elements that are given may not be those that are shown: whoever needs to keep
 * hold of them uses `put`. Elements with the same `data-key` are the same, wherever they are. What has `data-own`
 * looks after its own content.
 * @param {Element} parent
 * @param {...Child} children
 */
export function show(parent, ...children) {
  const wanted = document.createElement("div");
  append(wanted, children);
  morphChildren(parent, wanted);
}

/** Puts exactly these children into `parent`, for whoever keeps hold of them. @param {Element} parent @param {...Child} children */
export function put(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

/** @param {Element} parent @param {Element} wanted */
function morphChildren(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.children) {
    const key = child.getAttribute("data-key");
    if (key !== null) keyed.set(key, child);
  }
  /** @type {ChildNode | null} */
  let place = parent.firstChild;
  for (const next of [...wanted.childNodes]) {
    const key = next instanceof Element ? next.getAttribute("data-key") : null;
    const match = key === null ? place : keyed.get(key);
    if (match && isSame(match, next)) {
      if (match === place) place = match.nextSibling;
      else parent.insertBefore(match, place);
      morph(match, next);
    } else {
      parent.insertBefore(next, place);
    }
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

/** @param {Node} old @param {Node} next */
function isSame(old, next) {
  if (old.nodeName !== next.nodeName) return false;
  if (!(old instanceof Element && next instanceof Element)) return true;
  return old.getAttribute("data-key") === next.getAttribute("data-key") && old.id === next.id;
}

/** @param {Node} old @param {Node} next */
function morph(old, next) {
  if (!(old instanceof Element && next instanceof Element)) {
    if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
    return;
  }
  if (old.hasAttribute("data-own")) return;
  morphAttributes(old, next);
  for (const [type, handler] of Object.entries(handlers.get(next) ?? {})) listen(old, type, handler);
  morphChildren(old, next);
}

/** Whether a person, and not the view, decides about this attribute. @param {Element} element @param {string} name */
function isTheirs(element, name) {
  return name === "open" && (element.nodeName === "DETAILS" || element.nodeName === "DIALOG");
}

/** @param {Element} old @param {Element} next */
function morphAttributes(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !isTheirs(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (name !== "style" && old.getAttribute(name) !== value && !isTheirs(old, name)) old.setAttribute(name, value);
  }
  // The policy refuses styles that are set as an attribute, and allows them set as an object.
  if (old instanceof HTMLElement && next instanceof HTMLElement && old.style.cssText !== next.style.cssText) {
    old.style.cssText = next.style.cssText;
  }
}

/** The element with this id, which the page has. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page lacks #${id}`);
  return found;
}
