/** What `--augment` takes: ways to change a training image at random, each with its strength. */

/** How far a strength may go, and what it is without one given; src/model/data/augment.ts says what each does. */
const STRENGTHS = {
  shift: { preset: 2, max: 512, isWhole: true, what: 'pixels' },
  rotate: { preset: 10, max: 180, isWhole: false, what: 'degrees' },
  scale: { preset: 0.1, max: 0.5, isWhole: false, what: 'fraction' },
  flip: { preset: 0.5, max: 1, isWhole: false, what: 'probability' },
  noise: { preset: 8, max: 128, isWhole: false, what: 'of 255' },
  cutout: { preset: 8, max: 1024, isWhole: true, what: 'pixels' },
} as const;

type Name = keyof typeof STRENGTHS;
const NAMES = Object.keys(STRENGTHS) as Name[];

/** The strength of each way to change an image; 0 changes nothing. */
export type Augmentation = Readonly<Record<Name, number>>;

/** `shift=0–512 (pixels), …` */
export const AUGMENTATION_HELP = NAMES.map((name) => {
  const { max, what } = STRENGTHS[name];
  return `${name}=0–${max} (${what})`;
}).join(', ');

/** A name, and a strength as a decimal: nothing that needs an exponent makes sense here. */
export const AUGMENTATION_WORD = new RegExp(`^(${NAMES.join('|')})(=\\d{1,4}(\\.\\d{1,6})?)?$`);

/**
 * @param words `shift`, `rotate=10`, …, each name at most once
 * @returns null if one of them is none
 */
export function parseAugmentation(words: readonly string[]): Augmentation | null {
  const found = new Map<Name, number>();
  for (const word of words) {
    if (!AUGMENTATION_WORD.test(word)) return null;
    const [name, ...rest] = word.split('=') as [Name, string?];
    const { preset, max, isWhole } = STRENGTHS[name];
    const strength = rest.length === 0 ? preset : Number(rest[0]);
    if (found.has(name)) return null;
    if (strength > max || (isWhole && !Number.isInteger(strength))) return null;
    found.set(name, strength);
  }
  return Object.fromEntries(NAMES.map((name) => [name, found.get(name) ?? 0])) as Augmentation;
}

/** The words of an augmentation, in one order, with all strengths but those of 0. */
export function augmentationWords(augmentation: Augmentation): string[] {
  return NAMES.flatMap((name) =>
    augmentation[name] === 0 ? [] : [`${name}=${augmentation[name]}`],
  );
}
