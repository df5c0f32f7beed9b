/** Finds elements by id, and creates them with attributes and children. Text is never parsed as HTML. */

type Child = Node | string | null;

/** @throws {Error} if the page has no such element */
export function byId<T extends Element = HTMLElement>(
  id: string,
  type: new () => T = HTMLElement as unknown as new () => T,
): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} "${id}"`);
  return found;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  for (const child of children) if (child !== null) made.append(child);
  return made;
}

/** Sets the text only if it differs, so that a screen reader announces only changes. */
export function setText(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

/** The 2D context of a canvas with a bitmap at the screen's resolution, and coordinates in CSS pixels. */
export function sharpContext(canvas: HTMLCanvasElement, width: number, height: number) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d')!;
  context.scale(ratio, ratio);
  return context;
}

/** Channels of a colour from the style sheet, 0–255, in the current theme. */
export function themeChannels(name: string): [red: number, green: number, blue: number] {
  const probe = element('span');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const [red, green, blue] = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? []).map(Number);
  probe.remove();
  return [red, green, blue];
}

/** A colour from the style sheet, for a canvas. */
export function themeColor(name: string, opacity = 1): string {
  const [red, green, blue] = themeChannels(name);
  return `rgb(${red} ${green} ${blue} / ${opacity})`;
}

export function bytesFromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
