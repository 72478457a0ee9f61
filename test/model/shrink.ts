import type { World } from './world.ts'

/**
 * The smallest world that still fails: elements of all lists are left out, one by one, while it fails.
 * @param fails whether a world fails
 */
export async function shrunk(world: World, fails: (world: World) => Promise<boolean>): Promise<World> {
  let found = world
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false
    for (let n = 0; ; n++) {
      const smaller = without(found, n)
      if (!smaller) break
      if (!(await fails(smaller))) continue
      found = smaller
      isSmaller = true
      n--
    }
  }
  return found
}

/** The world without its `n`th element of any list that may be shorter; undefined behind the last one. */
function without(world: World, n: number): World | undefined {
  const copy = structuredClone(world)
  let i = 0
  const visit = (value: unknown, name: string): boolean => {
    if (Array.isArray(value)) {
      // Bursts have numbers, and claims name constraints by theirs.
      const isKept = name === 'bursts' || name === 'constraints' || name === 'cases'
      for (let at = 0; !isKept && at < value.length; at++)
        if (i++ === n) {
          value.splice(at, 1)
          return true
        }
      return value.some((each) => visit(each, ''))
    }
    if (typeof value !== 'object' || value === null) return false
    return Object.entries(value).some(([key, each]) => visit(each, key))
  }
  return visit(copy, '') ? copy : undefined
}
