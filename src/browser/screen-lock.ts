/** Keeps the screen on while the page is visible, if the browser allows it; says so, or why not. */

interface WakeLock {
  request(type: 'screen'): Promise<{ release(): Promise<void> }>;
}

export class ScreenLock {
  private lock: { release(): Promise<void> } | null = null;
  private isWanted = false;
  private readonly say: (sentence: string) => void;

  /** @param say shown to the user */
  constructor(say: (sentence: string) => void) {
    this.say = say;
    // The browser lets go of it whenever the page is hidden.
    document.addEventListener('visibilitychange', () => {
      if (this.isWanted && !document.hidden) this.acquire();
    });
  }

  acquire(): void {
    this.isWanted = true;
    const { wakeLock } = navigator as { wakeLock?: WakeLock };
    if (!wakeLock) {
      this.say(
        isSecureContext
          ? 'This browser cannot keep the screen on: when the device sleeps, the work pauses.'
          : 'The screen may turn off, which pauses the work: a page can keep it on only over https, or on this machine itself.',
      );
      return;
    }
    wakeLock.request('screen').then(
      (lock) => {
        if (!this.isWanted) {
          void lock.release();
          return;
        }
        this.lock = lock;
        this.say('The screen stays on while this page is visible.');
      },
      () =>
        this.say(
          'The browser is not keeping the screen on: when it turns off, the work may pause.',
        ),
    );
  }

  release(): void {
    this.isWanted = false;
    this.say('');
    void this.lock?.release();
    this.lock = null;
  }
}
