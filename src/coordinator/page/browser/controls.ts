/** The buttons that change the run. If the joining token is required, the page asks for it and keeps it until closed. */
import { byId, setText } from './element.js';
import type { RunStore } from './run-store.js';

const HEADER = 'x-lockstep-control';

export class Controls {
  private readonly store: RunStore;
  private token: string | null = null;
  private readonly pause = byId('control-pause', HTMLButtonElement);

  constructor(store: RunStore) {
    this.store = store;
    this.pause.addEventListener('click', () => {
      void this.ask(store.head?.state === 'paused' ? 'resume' : 'pause');
    });
    byId('control-invite').addEventListener('click', () => void this.invite());
    byId('control-save').addEventListener('click', () => void this.ask('save'));
    byId('control-stop').addEventListener('click', () => {
      if (confirm('Stop the run after this step? It can be resumed.')) void this.ask('stop');
    });
  }

  render(): void {
    const { head } = this.store;
    byId('controls').hidden = !head?.isLive || head.state === 'finished';
    setText(this.pause, head?.state === 'paused' ? 'Resume' : 'Pause');
    byId('control-invite').hidden = !head?.takesBrowsers;
  }

  evict(workerId: string, name: string): void {
    if (confirm(`Evict ${name} for the rest of the run?`)) void this.ask('evict', workerId);
  }

  private async ask(action: string, name = ''): Promise<void> {
    const query = name === '' ? '' : `?name=${encodeURIComponent(name)}`;
    const response = await this.request('POST', `api/control/${action}${query}`);
    if (response) this.say((await response.text()).trim());
  }

  /** Shows the link for browser workers, and its QR code. */
  private async invite(): Promise<void> {
    const response = await this.request('GET', 'api/work-link');
    if (!response?.ok) {
      if (response) this.say((await response.text()).trim());
      return;
    }
    const { link, code } = (await response.json()) as { link: string; code: string };
    const anchor = byId('invite-link', HTMLAnchorElement);
    setText(anchor, link);
    anchor.href = link;
    byId('invite-code', HTMLImageElement).src =
      `data:image/svg+xml;charset=utf-8,${encodeURIComponent(code)}`;
    byId('invite-secret').hidden = !link.includes('#');
    byId('invite-dialog', HTMLDialogElement).showModal();
  }

  /** Asks for the token if it is required. @returns null if none is given, or the coordinator does not answer */
  private async request(method: string, path: string): Promise<Response | null> {
    try {
      for (;;) {
        const response = await fetch(path, {
          method,
          headers: {
            [HEADER]: '1',
            ...(this.token === null ? {} : { Authorization: `Bearer ${this.token}` }),
          },
        });
        if (response.status !== 401) return response;
        this.token = await askForToken(this.token === null ? '' : 'That token is wrong. ');
        if (this.token === null) return null;
      }
    } catch {
      this.say('The coordinator does not answer');
      return null;
    }
  }

  private say(text: string): void {
    setText(byId('control-note'), text);
  }
}

/** @returns null if none is given */
function askForToken(note: string): Promise<string | null> {
  const dialog = byId('token-dialog', HTMLDialogElement);
  const field = byId('token', HTMLInputElement);
  setText(byId('token-note'), `${note}This requires the joining token of the run.`);
  field.value = '';
  dialog.returnValue = '';
  dialog.showModal();
  const ok = () => dialog.close('given');
  const cancel = () => dialog.close();
  const enter = (event: KeyboardEvent) => {
    if (event.key === 'Enter') ok();
  };
  byId('token-ok').addEventListener('click', ok);
  byId('token-cancel').addEventListener('click', cancel);
  field.addEventListener('keydown', enter);
  return new Promise((resolve) =>
    dialog.addEventListener(
      'close',
      () => {
        byId('token-ok').removeEventListener('click', ok);
        byId('token-cancel').removeEventListener('click', cancel);
        field.removeEventListener('keydown', enter);
        const token = field.value.trim();
        field.value = '';
        resolve(dialog.returnValue === 'given' && token !== '' ? token : null);
      },
      { once: true },
    ),
  );
}
