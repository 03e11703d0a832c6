/** So long that a machine which is merely busy does not fail a test. */
const defaultTimeoutMs = 30_000;

/** Polls until the condition gives something, and says what it gave last when it does not in time. */
export async function waitFor<Value>(
  condition: () => Value | Promise<Value>,
  options: { timeoutMs?: number; until?: (value: Value) => boolean; what?: string } = {},
): Promise<Value> {
  const deadline = Date.now() + (options.timeoutMs ?? defaultTimeoutMs);
  const isDone = options.until ?? Boolean;
  for (;;) {
    const value = await condition();
    if (isDone(value)) return value;
    if (Date.now() > deadline)
      throw new Error(`${options.what ?? "The condition"} did not come true; last seen: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
