import { describe, expect, it } from 'vitest';
import { formatTable, leftAligned, rightAligned } from '../../src/shared/table.js';
import { cutText, fitText } from '../../src/shared/text-width.js';

const ROWS = [
  ['class', 'images'],
  ['数字', '7'],
];

describe('formatTable()', () => {
  it('counts the columns of a terminal, of which some characters take two', () => {
    expect(leftAligned(ROWS)).toEqual(['class  images', '数字   7']);
    expect(rightAligned(ROWS)).toEqual(['class  images', ' 数字       7']);
    expect(formatTable(ROWS, (column) => column === 1)).toEqual(['class  images', '数字        7']);
  });
});

describe('fitText()', () => {
  it('fills its columns exactly', () => {
    expect(fitText('ab', 4)).toBe('ab  ');
    expect(fitText('数字数字', 4)).toBe('数… ');
    expect(fitText('é́é', 2)).toBe('é́é');
  });
});

describe('cutText()', () => {
  it('leaves no half of a character', () => {
    expect(cutText('数字', 3)).toBe('数');
    expect(cutText('👩‍👩‍👧 x', 2)).toBe('👩‍👩‍👧');
  });
});
