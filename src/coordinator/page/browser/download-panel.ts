/** Download links for the trained model in each format, from the best checkpoint or the latest. */
import { byId, element } from './element.js';

const LABELS: Readonly<Record<string, string>> = {
  onnx: 'ONNX',
  pytorch: 'PyTorch',
  tfjs: 'TensorFlow.js',
  js: 'JavaScript',
};

interface Exports {
  readonly formats: readonly string[];
  readonly checkpoints: readonly string[];
}

export class DownloadPanel {
  private readonly panel = byId('download-panel');
  private readonly links = byId('downloads');
  private readonly choice = byId('download-checkpoint', HTMLSelectElement);
  private shown = '';
  private isAsking = false;

  constructor() {
    this.choice.addEventListener('change', () => this.point());
  }

  /** Call this when a checkpoint may have been written. */
  async refresh(): Promise<void> {
    if (this.isAsking) return;
    this.isAsking = true;
    try {
      const response = await fetch('api/exports');
      if (response.ok) this.show((await response.json()) as Exports);
    } catch {
      // The coordinator is gone; keep what is shown.
    } finally {
      this.isAsking = false;
    }
  }

  private show({ formats, checkpoints }: Exports): void {
    const text = JSON.stringify([formats, checkpoints]);
    if (text === this.shown) return;
    this.shown = text;
    this.panel.hidden = checkpoints.length === 0;
    for (const option of this.choice.options) option.hidden = !checkpoints.includes(option.value);
    if (!checkpoints.includes(this.choice.value)) this.choice.value = checkpoints.at(0) ?? '';
    this.links.replaceChildren(
      ...formats.map((format) => {
        const link = element('a', { download: '', 'data-format': format, class: 'text-button' });
        link.append(LABELS[format] ?? format);
        return element('li', {}, link);
      }),
    );
    this.point();
  }

  /** Points the links at the chosen checkpoint. */
  private point(): void {
    for (const link of this.links.querySelectorAll('a')) {
      const { format = '' } = link.dataset;
      link.href = `api/export?format=${format}&checkpoint=${this.choice.value}`;
    }
  }
}
