/** Keeps the screen on while the page is in sight, where the browser lets it; says so, or why not. */

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
          : 'The screen may go off, and the work pauses then: only over https, or on this machine itself, may a page keep it on.',
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
        this.say('The screen stays on as long as this page is in sight.');
      },
      () =>
        this.say(
          'The browser does not keep the screen on just now: when it goes off, the work may pause.',
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
