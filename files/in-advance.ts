/** Work on what comes, begun a little before its turn. */

/**
 * What `prepare` makes of each item, in their order; up to `ahead` are being prepared while one is used. A failure comes in its turn. When the iteration ends
 * early, what is being prepared is the business of whoever can call it back.
 */
export async function* inAdvance<Item, Result>(
  items: AsyncGenerator<Item, void, void>,
  prepare: (item: Item) => Promise<Result>,
  ahead: number,
): AsyncGenerator<Result, void, void> {
  const preparing: Promise<Result>[] = []
  for await (const item of items) {
    const result = prepare(item)
    // It is heard of in its turn, if that comes.
    result.catch(() => undefined)
    preparing.push(result)
    if (preparing.length > ahead) yield await preparing.shift()!
  }
  while (preparing.length > 0) yield await preparing.shift()!
}
