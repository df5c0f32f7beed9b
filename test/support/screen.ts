/**
 * What a terminal shows of the bytes written to it: xterm's emulator without a window.
 */
import xterm from '@xterm/headless';

export interface Screen {
  readonly write: (text: string) => void;
  readonly resize: (columns: number, rows: number) => void;
  /** The lines with text in them, those scrolled away as well. */
  readonly lines: () => Promise<string[]>;
}

export function createScreen(columns: number, rows: number): Screen {
  const terminal = new xterm.Terminal({
    cols: columns,
    rows,
    allowProposedApi: true,
    scrollback: 10_000,
  });
  return {
    // A terminal driver would add the carriage return.
    write: (text) => terminal.write(text.replace(/\r?\n/g, '\r\n')),
    resize: (newColumns, newRows) => terminal.resize(newColumns, newRows),
    async lines() {
      await new Promise<void>((resolve) => terminal.write('', resolve));
      const { active } = terminal.buffer;
      return Array.from({ length: active.length }, (_, y) => active.getLine(y)!)
        .map((line) => line.translateToString(true).trimEnd())
        .filter((line) => line !== '');
    },
  };
}
