/** Sends the result of a process of the bench to the process that started it. */
export function reportToParent(message: object): void {
  if (process.send === undefined) throw new Error('This file is part of the bench: use `npm run bench`.')
  process.send(message)
}
