/** The kernels as wasm.ts describes them against the compiled modules, which alone know, and against their sources. */
import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const at = (path: string) => new URL(`../../../../${path}`, import.meta.url);
const SOURCES = 'src/model/engine/simd/';

interface Signature {
  readonly params: readonly string[];
  readonly results: readonly string[];
}

/** The functions that a module exports: https://webassembly.github.io/spec/core/binary/modules.html */
function exportedFunctions(bytes: Uint8Array): Map<string, Signature> {
  let position = 8;
  const byte = () => bytes[position++];
  const integer = (): number => {
    let [value, factor] = [0, 1];
    for (;;) {
      const part = byte();
      value += (part & 0x7f) * factor;
      if (part < 0x80) return value;
      factor *= 128;
    }
  };
  const list = <T>(read: () => T): T[] => Array.from({ length: integer() }, read);
  const name = () => {
    const length = integer();
    position += length;
    return Buffer.from(bytes.subarray(position - length, position)).toString();
  };
  const valueType = () =>
    ({ 0x7f: 'i32', 0x7e: 'i64', 0x7d: 'f32', 0x7c: 'f64' })[byte()] ?? 'v128';
  let [types, functions]: [Signature[], number[]] = [[], []];
  const found = new Map<string, Signature>();
  while (position < bytes.length) {
    const section = byte();
    const end = integer() + position;
    if (section === 1) {
      types = list(() => {
        expect(byte()).toBe(0x60);
        return { params: list(valueType), results: list(valueType) };
      });
    } else if (section === 2) {
      // Nothing but the memory is imported, so that functions are numbered from zero.
      list(() => {
        expect([name(), name(), byte()]).toEqual(['env', 'memory', 2]);
        const hasMaximum = (byte() & 1) === 1;
        integer();
        if (hasMaximum) integer();
      });
    } else if (section === 3) {
      functions = list(integer);
    } else if (section === 7) {
      list(() => {
        const [exported, kind, index] = [name(), byte(), integer()];
        if (kind === 0) found.set(exported, types[functions[index]]);
      });
    }
    position = end;
  }
  return found;
}

interface Declared {
  readonly names: readonly string[];
  readonly types: readonly string[];
  readonly result: string;
}

function parse(path: string): ts.SourceFile {
  return ts.createSourceFile(path, readFileSync(at(path), 'utf8'), ts.ScriptTarget.Latest, true);
}

function declared(node: ts.SignatureDeclaration): Declared {
  return {
    names: node.parameters.map((parameter) => parameter.name.getText()),
    types: node.parameters.map((parameter) => parameter.type?.getText() ?? ''),
    result: node.type?.getText() ?? '',
  };
}

/** The methods of `Kernels`. */
function kernels(): Map<string, Declared> {
  const found = new Map<string, Declared>();
  parse(`${SOURCES}wasm.ts`).forEachChild((node) => {
    if (!ts.isInterfaceDeclaration(node) || node.name.text !== 'Kernels') return;
    for (const member of node.members) {
      if (ts.isMethodSignature(member)) found.set(member.name.getText(), declared(member));
    }
  });
  return found;
}

/** The functions that assembly/index.ts exports, as their files have them. */
function sources(): Map<string, Declared> {
  const found = new Map<string, Declared>();
  parse(`${SOURCES}assembly/index.ts`).forEachChild((node) => {
    if (!ts.isExportDeclaration(node)) return;
    const exported = node.exportClause?.getText() ?? '';
    const file = node.moduleSpecifier?.getText().slice(3, -1);
    parse(`${SOURCES}assembly/${file}.ts`).forEachChild((child) => {
      if (!ts.isFunctionDeclaration(child) || !child.name) return;
      const isExported = new RegExp(`\\b${child.name.text}\\b`).test(exported);
      if (isExported) found.set(child.name.text, declared(child));
    });
  });
  return found;
}

describe.each(['simd.wasm', 'simd-shared.wasm'])('Kernels and %s', (file) => {
  const compiled = exportedFunctions(readFileSync(at(`dist/model/engine/simd/${file}`)));

  test('name the same functions', () => {
    expect([...kernels().keys()].sort()).toEqual([...compiled.keys()].sort());
  });

  test.each([...kernels()])('agree on the types of %s', (name, { types, result }) => {
    const { params, results } = compiled.get(name)!;
    const asWritten = (type: string, index: number) =>
      type === 'boolean' ? 'i32' : /^(i32|f32|f64)$/.test(params[index]) ? params[index] : type;
    expect(types.map(asWritten)).toEqual(params);
    expect(results).toHaveLength(result === 'void' ? 0 : 1);
  });
});

test.each([...kernels()])(
  'Kernels has the arguments of %s in the order of its source',
  (name, kernel) => {
    const source = sources().get(name)!;
    expect(kernel.names).toEqual(source.names);
    expect(kernel.types).toEqual(
      source.types.map((type) => (type === 'bool' ? 'boolean' : 'number')),
    );
  },
);
