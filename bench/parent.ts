/** Sends a message to the process of the bench that has started this one. */
export function tellParent(message: object): void {
  if (process.send === undefined) throw new Error('This file is a part of the bench: use `npm run bench`.')
  process.send(message)
}
