'use strict';
// What a page may be made of. A name that became markup would most likely be something else.
const ELEMENTS = new Set(`html head meta title style body header main footer section div span p strong h1 h2 ul li dl
  dt dd bdi data code table caption thead tbody tr th td svg desc rect polyline polygon text`.split(/\s+/));
const ATTRIBUTES = new Set(`lang charset http-equiv content name class id role scope value aria-hidden aria-labelledby
  title data-label viewBox width height x y rx points text-anchor`.split(/\s+/));

const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
// The channels of an opaque colour; null for one that is not.
const colour = text => {
  const numbers = text.match(/^rgba?\(([^)]*)\)$/)?.[1].split(/[ ,/]+/).map(Number);
  return numbers && (numbers[3] ?? 1) === 1 ? numbers.slice(0, 3) : null;
};
const isSvg = element => element.namespaceURI === 'http://www.w3.org/2000/svg';
const isHidden = element => element.closest('style, title, desc') !== null
  || [...ancestors(element)].some(parent => getComputedStyle(parent).clipPath === 'inset(50%)');
function* ancestors(element) {
  for (let at = element; at; at = at.parentElement) yield at;
}

// Every piece of text that is shown, with its place.
function texts(page) {
  const found = [];
  const walker = page.createTreeWalker(page.documentElement, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.data.trim() || isHidden(node.parentElement)) continue;
    const range = page.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      if (rect.width > 0.5) found.push({ node, element: node.parentElement, rect, text: node.data.trim().slice(0, 40) });
    }
  }
  return found;
}

function structure(page, expected, say) {
  const all = [...page.querySelectorAll('*')];
  for (const element of all) {
    const name = element.localName;
    if (!ELEMENTS.has(name)) say(`an element ${name}`);
    for (const attribute of element.attributes) {
      const name = attribute.name;
      if (!ATTRIBUTES.has(name) && !(name === 'xmlns')) say(`an attribute ${name} of ${element.localName}`);
    }
  }
  const policy = page.querySelector('meta[http-equiv=Content-Security-Policy]')?.content ?? '';
  if (!policy.startsWith("default-src 'none'; style-src 'unsafe-inline';")) say(`policy ${policy}`);
  if (!page.documentElement.lang) say('no language');
  if (!page.title.trim()) say('no title');
  const levels = [...page.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(heading => Number(heading.localName[1]));
  if (levels.filter(level => level === 1).length !== 1 || levels[0] !== 1) say(`headings ${levels}`);
  if (levels.some((level, n) => n > 0 && level > levels[n - 1] + 1)) say(`headings ${levels}`);
  const ids = all.map(element => element.id).filter(Boolean);
  if (new Set(ids).size !== ids.length) say('an id twice');
  for (const element of page.querySelectorAll('[aria-labelledby]')) {
    for (const id of element.getAttribute('aria-labelledby').split(' ')) {
      if (!page.getElementById(id)?.textContent.trim()) say(`nothing is called ${id}`);
    }
  }
  if (page.querySelectorAll('main').length !== 1) say('no main part');
  for (const table of page.querySelectorAll('table')) {
    if (!table.caption?.textContent.trim()) say('a table without a caption');
    if ([...table.tHead.rows[0].cells].some(cell => cell.localName !== 'th' || cell.scope !== 'col')) say('a column without a heading');
    for (const row of table.tBodies[0].rows) {
      if (row.cells[0].localName !== 'th' || row.cells[0].scope !== 'row') say('a row without a heading');
      if (row.cells.length !== table.tHead.rows[0].cells.length) say('a row of another length');
    }
  }
  for (const svg of page.querySelectorAll('svg')) {
    const [title, description] = svg.children;
    const named = svg.getAttribute('aria-labelledby');
    if (svg.getAttribute('role') !== 'img' || title.localName !== 'title' || description.localName !== 'desc'
      || named !== `${title.id} ${description.id}`) say('a picture without a description');
  }
  const whole = page.body.textContent;
  for (const text of expected) if (!whole.includes(text)) say(`no text ${text}`);
}

// What is behind a text: the first thing below it that is not text and has a colour of its own.
function background(page, view, { rect }) {
  const stack = page.elementsFromPoint(rect.left + rect.width / 2, rect.top + rect.height / 2);
  for (const element of stack) {
    const style = view.getComputedStyle(element);
    if (isSvg(element) && element.localName !== 'svg') {
      if (element.localName === 'text' || element.localName === 'polyline') continue;
      if (style.fill !== 'none') return { element, colour: colour(style.fill) };
    } else if (colour(style.backgroundColor)) {
      return { element, colour: colour(style.backgroundColor) };
    }
  }
  return null;
}

function appearance(page, view, say) {
  if (page.documentElement.scrollWidth > view.innerWidth) say(`it scrolls sideways: ${page.documentElement.scrollWidth}`);
  const found = texts(page);
  for (const piece of found) {
    const { element, rect, text } = piece;
    if (rect.left < -0.5 || rect.right > view.innerWidth + 0.5) say(`outside of the window: ${text}`);
    const style = view.getComputedStyle(element);
    const own = colour(isSvg(element) ? style.fill : style.color);
    const behind = background(page, view, piece);
    const ratio = own && behind?.colour ? contrast(own, behind.colour) : 0;
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}: ${text}`);
    if (parseFloat(style.fontSize) < 12) say(`small letters: ${text}`);
    if (isSvg(element)) {
      const frame = behind?.element.localName === 'rect' ? behind.element : element.closest('svg');
      const room = frame.getBoundingClientRect();
      if (rect.left < room.left || rect.right > room.right || rect.top < room.top || rect.bottom > room.bottom + 2) {
        say(`outside of its box: ${text}`);
      }
    }
  }
  for (const svg of page.querySelectorAll('svg')) {
    const boxes = [...svg.querySelectorAll('rect.box, rect.port, rect.container')].map(box => box.getBoundingClientRect());
    boxes.forEach((a, n) => {
      const isOver = b => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
      if (boxes.slice(n + 1).some(isOver)) say('a box over another');
    });
  }
  found.sort((a, b) => a.rect.top - b.rect.top);
  found.forEach((a, n) => {
    for (let m = n + 1; m < found.length && found[m].rect.top < a.rect.bottom - 2; m += 1) {
      const b = found[m];
      const width = Math.min(a.rect.right, b.rect.right) - Math.max(a.rect.left, b.rect.left);
      const height = Math.min(a.rect.bottom, b.rect.bottom) - b.rect.top;
      if (a.node !== b.node && width > 1 && height > 2) say(`one over the other: ${a.text} / ${b.text}`);
    }
  });
  return found.length;
}

function measure(frame) {
  const { name, dark, expected } = frame.dataset;
  const page = frame.contentDocument;
  frame.height = page.documentElement.scrollHeight;
  const problems = [];
  // A few of each kind tell enough.
  const kinds = new Map();
  const say = problem => {
    const kind = problem.split(/[:\d]/)[0];
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    if (kinds.get(kind) <= 5) problems.push(problem);
  };
  const view = frame.contentWindow;
  if (view.matchMedia('(prefers-color-scheme: dark)').matches !== (dark === 'true')) say('not the colours that were asked for');
  structure(page, JSON.parse(expected), say);
  const number = appearance(page, view, say);
  return { name: `${name} at ${view.innerWidth}`, problems, texts: number, height: Number(frame.height) };
}

// A picture alone must be right as XML as well.
function parsed(template) {
  const picture = new DOMParser().parseFromString(template.dataset.text, 'image/svg+xml');
  const problems = [];
  if (picture.querySelector('parsererror')) problems.push(picture.querySelector('parsererror').textContent);
  for (const element of picture.querySelectorAll('*')) {
    if (!ELEMENTS.has(element.localName)) problems.push(`an element ${element.localName}`);
  }
  for (const text of JSON.parse(template.dataset.expected)) {
    if (!picture.documentElement.textContent.includes(text)) problems.push(`no text ${text}`);
  }
  return { name: `${template.dataset.name} as XML`, problems, texts: picture.querySelectorAll('text').length };
}

addEventListener('load', () => {
  let result;
  try {
    result = [...[...document.querySelectorAll('iframe')].map(measure), ...[...document.querySelectorAll('data')].map(parsed)];
  } catch (error) {
    result = [{ name: 'the measure', problems: [String(error.stack)], texts: 0 }];
  }
  // As text that needs no escapes in markup.
  const text = JSON.stringify(result).replace(/[<>&]/g, c => `\\u00${c.charCodeAt(0).toString(16)}`);
  const pre = document.createElement('pre');
  pre.textContent = text;
  document.body.replaceChildren(pre);
});
