/** Tabs of three browser engines, driven by what each of them has: CDP, WebDriver BiDi, WebDriver. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { isInstalled, launchBrowser } from './browser.js';
import { MARK, marked } from './descendants.js';
import { freePort } from './lockstep.js';
import { temporaryDirectory } from './temporary-directory.js';

export interface Tab {
  readonly engine: string;
  /** The value of an expression, or of its promise: text or number. */
  evaluate(expression: string): Promise<string | number>;
  reload(): Promise<void>;
  close(): Promise<void>;
  /** Stops it, its threads too, as a system does that wants the memory or the battery for something else. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
}

type Open = (url: string) => Promise<Tab>;

/** Those that are installed here. @throws {Error} in CI, where one is missing that could be had */
export function installedEngines(): Readonly<Record<string, () => Promise<Open>>> {
  const engines = {
    chromium: { programs: ['/usr/bin/chromium'], start: startChromium },
    firefox: { programs: ['/usr/bin/firefox-esr'], start: startFirefox },
    webkit: { programs: ['/usr/bin/WebKitWebDriver', '/usr/bin/Xvfb'], start: startWebKit },
  };
  const found = Object.entries(engines).filter(([name, { programs }]) =>
    isInstalled(name, programs),
  );
  return Object.fromEntries(found.map(([name, { start }]) => [name, start]));
}

async function startChromium(): Promise<Open> {
  const browser = await launchBrowser();
  onTestFinished(() => browser.close());
  return async (url) => {
    // A profile of its own.
    const context = await browser.newContext();
    const page = await context.newPage();
    const devTools = await context.newCDPSession(page);
    const threads: string[] = [];
    devTools.on('Target.attachedToTarget', ({ sessionId, targetInfo }) => {
      if (targetInfo.type === 'worker') threads.push(sessionId);
    });
    await devTools.send('Target.setAutoAttach', {
      ...{ autoAttach: true, waitForDebuggerOnStart: false, flatten: false },
    });
    const toThreads = async (...methods: readonly string[]) => {
      for (const sessionId of threads) {
        for (const [id, method] of methods.entries()) {
          const message = JSON.stringify({ id, method });
          await devTools.send('Target.sendMessageToTarget', { sessionId, message });
        }
      }
    };
    await page.goto(url);
    return {
      engine: 'chromium',
      evaluate: (expression) => page.evaluate<string | number>(expression),
      reload: async () => {
        await page.reload();
      },
      close: () => page.close(),
      // A page that is frozen alone, as Chromium does it to save energy, has threads that go on.
      async freeze() {
        await devTools.send('Page.setWebLifecycleState', { state: 'frozen' });
        await toThreads('Debugger.enable', 'Debugger.pause');
      },
      async thaw() {
        await toThreads('Debugger.resume', 'Debugger.disable');
        await devTools.send('Page.setWebLifecycleState', { state: 'active' });
      },
    };
  };
}

/** https://w3c.github.io/webdriver-bidi/ */
async function startFirefox(): Promise<Open> {
  const profile = await temporaryDirectory();
  const browser = startProcess('/usr/bin/firefox-esr', [
    ...['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0'],
  ]);
  const [, address] = await said(browser, /WebDriver BiDi listening on (ws:\S+)/);
  const socket = new WebSocket(`${address}/session`);
  await new Promise((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });
  const waiting = new Map<number, (answer: BidiAnswer) => void>();
  socket.on('message', (data: Buffer) => {
    const answer = JSON.parse(data.toString()) as BidiAnswer;
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  let lastId = 0;
  const call = async (method: string, params: object): Promise<Record<string, unknown>> => {
    const id = ++lastId;
    const answered = new Promise<BidiAnswer>((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params }));
    const answer = await answered;
    if (answer.type === 'error') throw new Error(`${method}: ${answer.error}, ${answer.message}`);
    return answer.result;
  };
  await call('session.new', { capabilities: {} });
  const signal = (name: NodeJS.Signals) => {
    for (const pid of browser.pids()) if (isContentProcess(pid)) process.kill(pid, name);
    return Promise.resolve();
  };
  return async (url) => {
    const { context } = await call('browsingContext.create', { type: 'tab' });
    await call('browsingContext.navigate', { context, url, wait: 'complete' });
    return {
      engine: 'firefox',
      async evaluate(expression) {
        const said = await call('script.evaluate', {
          ...{ expression, target: { context }, awaitPromise: true },
        });
        return (said.result as { value: string | number }).value;
      },
      async reload() {
        await call('browsingContext.reload', { context, wait: 'complete' });
      },
      close: async () => {
        await call('browsingContext.close', { context });
      },
      freeze: () => signal('SIGSTOP'),
      thaw: () => signal('SIGCONT'),
    };
  };
}

interface BidiAnswer {
  readonly id: number;
  readonly type: 'success' | 'error';
  readonly result: Record<string, unknown>;
  readonly error: string;
  readonly message: string;
}

/** https://www.w3.org/TR/webdriver2/, on a display that nobody sees. */
async function startWebKit(): Promise<Open> {
  const display = startProcess('/usr/bin/Xvfb', [
    ...['-displayfd', '2', '-screen', '0', '800x600x24', '-nolisten', 'tcp'],
  ]);
  const [number] = await said(display, /^\d+$/m);
  const port = await freePort();
  const driver = startProcess('/usr/bin/WebKitWebDriver', [`--port=${port}`], {
    DISPLAY: `:${number}`,
    // No sandbox within a container's, no GPU.
    WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1',
    WEBKIT_DISABLE_COMPOSITING_MODE: '1',
    LIBGL_ALWAYS_SOFTWARE: '1',
    XDG_DATA_HOME: await temporaryDirectory(),
    XDG_CACHE_HOME: await temporaryDirectory(),
  });
  const call = async (method: string, path: string, body?: object): Promise<unknown> => {
    const response = await fetch(`http://127.0.0.1:${port}/session${path}`, {
      method,
      ...(body && { body: JSON.stringify(body) }),
    });
    const { value } = (await response.json()) as { value: { error?: string; message?: string } };
    if (!response.ok) throw new Error(`${path}: ${value.error}, ${value.message}`);
    return value;
  };
  const binary = miniBrowser();
  return async (url) => {
    const capabilities = {
      alwaysMatch: { 'webkitgtk:browserOptions': { binary, args: ['--automation'] } },
    };
    const session = (await untilItListens(() => call('POST', '', { capabilities }))) as {
      sessionId: string;
    };
    const at = `/${session.sessionId}`;
    const signal = (name: NodeJS.Signals) => {
      for (const pid of driver.pids()) {
        if (commandOf(pid).includes('WebKitWebProcess')) process.kill(pid, name);
      }
      return Promise.resolve();
    };
    await call('POST', `${at}/url`, { url });
    return {
      engine: 'webkit',
      evaluate: (expression) =>
        call('POST', `${at}/execute/sync`, { script: `return ${expression}`, args: [] }) as Promise<
          string | number
        >,
      reload: async () => {
        await call('POST', `${at}/refresh`, {});
      },
      close: async () => {
        await call('DELETE', at);
      },
      freeze: () => signal('SIGSTOP'),
      thaw: () => signal('SIGCONT'),
    };
  };
}

/** Beside the library, in a folder that has the machine's and the library's names in it. */
function miniBrowser(): string | undefined {
  return readdirSync('/usr/lib')
    .filter((folder) => folder.endsWith('-linux-gnu'))
    .flatMap((folder) =>
      ['4.1', '4.0'].map((api) => `/usr/lib/${folder}/webkit2gtk-${api}/MiniBrowser`),
    )
    .find((path) => existsSync(path));
}

async function untilItListens<T>(action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

interface Started {
  readonly child: ChildProcess;
  /** Of all that it started, and its own. */
  readonly pids: () => number[];
}

function isContentProcess(pid: number): boolean {
  return /-contentproc.*\btab\b/.test(commandOf(pid));
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** Gone with the test, all that it started with it. */
function startProcess(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Started {
  const mark = randomUUID();
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...environment, [MARK]: mark },
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  onTestFinished(async () => {
    for (const pid of marked(mark)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has gone already.
      }
    }
    await ended;
  });
  return { child, pids: () => marked(mark) };
}

function said({ child }: Started, pattern: RegExp): Promise<RegExpExecArray> {
  return new Promise((resolve, reject) => {
    let output = '';
    child.stderr!.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      const match = pattern.exec(output);
      if (match) resolve(match);
    });
    child.once('close', () => reject(new Error(`It never said ${pattern.source}:\n${output}`)));
  });
}
