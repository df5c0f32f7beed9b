/** How often something may happen: `perSecond` times on average, `burst` times at once. */
export class TokenBucket {
  private readonly perSecond: number;
  private readonly burst: number;
  private tokens: number;
  private filledAt = -Infinity;

  constructor(perSecond: number, burst: number) {
    this.perSecond = perSecond;
    this.burst = burst;
    this.tokens = burst;
  }

  /**
   * @param now milliseconds, of a clock that never goes back
   * @param amount how many at once, `burst` at most
   */
  take(now: number, amount = 1): boolean {
    const gained = ((now - this.filledAt) / 1000) * this.perSecond;
    this.tokens = Math.min(this.burst, this.tokens + gained);
    this.filledAt = now;
    if (this.tokens < amount) return false;
    this.tokens -= amount;
    return true;
  }
}
