/** How much of what is drawn at random a test tries: CI takes its time, `npm test` does not. */
export function effort(inCi: number, byDefault: number): number {
  return process.env.CI ? inCi : byDefault;
}
