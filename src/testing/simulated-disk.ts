import { basename, dirname } from 'node:path'
import type { Disk, DiskFile, FileIdentity } from '../log/file-log/disk.ts'

export type Fault =
  /** The operating system reports an error; a write may be partial, and the data of a failed sync may be lost. */
  | 'fail'
  /** There is no room: whatever makes a file or a directory, or makes one larger, fails. */
  | 'full'
  /** The process dies: this and every later operation of it fails. A write may be partial. */
  | 'crash'

export interface Operation {
  readonly kind:
    | 'open'
    | 'create'
    | 'list'
    | 'make'
    | 'rename'
    | 'remove'
    | 'size'
    | 'identify'
    | 'read'
    | 'write'
    | 'truncate'
    | 'sync'
  readonly path: string
  /** The name of the sync in the log's code. */
  readonly label: string | undefined
  readonly number: number
}

/** A disk in memory that loses data that is not durable, as a real one may on power loss. */
export interface SimulatedDisk extends Disk {
  /** Ends the process; the files stay as it left them. */
  endProcess(): void
  /**
   * Ends the process and cuts the power: keeps a random subset of the writes (by sector), sizes and directory
   * entries that were not durable.
   */
  losePower(): void
  /**
   * Flips a random bit of a random file below a directory, also of what is durable.
   * @returns flips it back, unless it was written meanwhile; undefined if there are no bytes
   */
  flipBit(directory: string): (() => void) | undefined
  readonly operations: number
}

interface SimulatedDiskOptions {
  /** Returns numbers in [0, 1); the only source of randomness. */
  readonly random: () => number
  /** Called before each operation; returns the fault that strikes it. */
  readonly fault?: (operation: Operation) => Fault | undefined
  /** Labels of syncs to skip. */
  readonly ignoredSyncs?: ReadonlySet<string>
}

const sectorBytes = 512

const needsRoom: ReadonlySet<Operation['kind']> = new Set(['make', 'create', 'write', 'truncate'])

/** A change of a file that is not durable. */
type FileChange = { readonly at: number; readonly bytes: Buffer } | { readonly size: number }

let filesMade = 0

class SimulatedFile {
  readonly id = `${++filesMade}`
  content: Buffer = Buffer.alloc(0)
  durable: Buffer = Buffer.alloc(0)
  changes: FileChange[] = []
  /** Those of the changes that are durable, after others that are not. */
  readonly synced = new Set<FileChange>()

  change(change: FileChange): void {
    this.content = changed(this.content, change)
    this.changes.push(change)
  }

  sync(synced: Iterable<FileChange>): void {
    for (const change of synced) this.synced.add(change)
    for (let first = this.changes[0]; first && this.synced.delete(first); first = this.changes[0]) {
      this.durable = changed(this.durable, first)
      this.changes.shift()
    }
  }

  lose(random: () => number): void {
    this.durable = keptOf(this, random)
    this.changes = []
    this.synced.clear()
  }
}

type DirectoryChange =
  | { readonly added: string; readonly node: Node }
  | { readonly removed: string }
  | { readonly renamed: string; readonly to: string }

type Node = SimulatedFile | SimulatedDirectory

class SimulatedDirectory {
  entries = new Map<string, Node>()
  durable = new Map<string, Node>()
  changes: DirectoryChange[] = []

  change(change: DirectoryChange): void {
    applyTo(this.entries, change)
    this.changes.push(change)
  }
}

export function simulatedDisk(options: SimulatedDiskOptions): SimulatedDisk {
  const { random, fault, ignoredSyncs = new Set() } = options
  const root = new SimulatedDirectory()
  let process = 0
  let dead = false
  let operations = 0

  /** Runs one operation, unless a fault strikes it or its process has ended. */
  async function operate<T>(
    kind: Operation['kind'],
    path: string,
    run: () => T,
    half?: () => void,
    label?: string,
  ): Promise<T> {
    const mine = process
    await undefined
    if (mine !== process || dead) throw new Error(`the process that used ${path} is dead`)
    operations++
    const found = fault?.({ kind, path, label, number: operations })
    if (found === undefined) return run()
    if (found === 'full' && !needsRoom.has(kind)) return run()
    half?.()
    if (found === 'crash') dead = true
    if (found === 'crash') throw new Error(`the process died at ${kind} ${path}`)
    const code = found === 'full' ? 'ENOSPC' : 'EIO'
    throw Object.assign(new Error(`${code}: simulated error, ${kind} ${path}`), { code, syscall: kind, path })
  }

  function nodeAt(path: string): Node | undefined {
    if (path === dirname(path)) return root
    const parent = nodeAt(dirname(path))
    return parent instanceof SimulatedDirectory ? parent.entries.get(basename(path)) : undefined
  }

  function directoryAt(path: string): SimulatedDirectory {
    const node = nodeAt(path)
    if (!(node instanceof SimulatedDirectory)) throw new Error(`there is no directory ${path}`)
    return node
  }

  function fileAt(path: string): SimulatedFile {
    const node = nodeAt(path)
    if (!(node instanceof SimulatedFile)) throw new Error(`there is no file ${path}`)
    return node
  }

  function opened(file: SimulatedFile, path: string, mode: Parameters<Disk['open']>[1]): DiskFile {
    /** Of a file that was opened to append: what a sync makes durable, and no more than that. */
    const appended: FileChange[] = []
    const change = (each: FileChange) => {
      file.change(each)
      if (mode === 'append') appended.push(each)
    }
    return {
      size: () => operate('size', path, () => file.content.length),
      identify: () => operate('identify', path, () => identityOf(file)),
      peek: (into, position) => operate('read', path, () => read(file, into, position)),
      read: (into, position) => operate('read', path, () => read(file, into, position)),
      write(bytes, position) {
        const copy = Buffer.from(bytes)
        const half = () => {
          for (const piece of sectorsOf(copy, position)) if (random() < 0.5) change(piece)
        }
        return operate('write', path, () => change({ at: position, bytes: copy }), half)
      },
      truncate: (size) => operate('truncate', path, () => change({ size })),
      sync(label) {
        const run = () => {
          if (ignoredSyncs.has(label)) return
          file.sync(mode === 'append' ? appended.splice(0) : file.changes)
        }
        // After a failed fsync the system considers the pages clean: no later fsync writes them.
        const half = () => file.lose(random)
        return operate('sync', path, run, half, label)
      },
      async close() {},
    }
  }

  function restart(): void {
    process++
    dead = false
  }

  return {
    get operations() {
      return operations
    },
    open: (path, mode) =>
      operate(mode === 'create' ? 'create' : 'open', path, () => {
        if (mode !== 'create') return opened(fileAt(path), path, mode)
        const parent = directoryAt(dirname(path))
        if (parent.entries.has(basename(path))) throw new Error(`${path} exists`)
        const file = new SimulatedFile()
        parent.change({ added: basename(path), node: file })
        return opened(file, path, mode)
      }),
    list: (path) =>
      operate('list', path, () => {
        const node = nodeAt(path)
        return node instanceof SimulatedDirectory ? [...node.entries.keys()] : undefined
      }),
    makeDirectory: (path) =>
      operate('make', path, () => {
        if (nodeAt(path) !== undefined) throw new Error(`${path} exists`)
        directoryAt(dirname(path)).change({ added: basename(path), node: new SimulatedDirectory() })
      }),
    identify: (path) =>
      operate('identify', path, () => {
        const node = nodeAt(path)
        return node instanceof SimulatedFile ? identityOf(node) : undefined
      }),
    rename: (from, to) =>
      operate('rename', from, () => {
        const parent = directoryAt(dirname(from))
        if (dirname(to) !== dirname(from) || !parent.entries.has(basename(from))) {
          throw new Error(`cannot rename ${from} to ${to}`)
        }
        parent.change({ renamed: basename(from), to: basename(to) })
      }),
    remove: (path) =>
      operate('remove', path, () => {
        fileAt(path)
        directoryAt(dirname(path)).change({ removed: basename(path) })
      }),
    syncDirectory: (path, label) =>
      operate(
        'sync',
        path,
        () => {
          const directory = directoryAt(path)
          if (ignoredSyncs.has(label)) return
          directory.durable = new Map(directory.entries)
          directory.changes = []
        },
        undefined,
        label,
      ),
    flipBit(directory) {
      const files = filesBelow(directoryAt(directory))
      const file = files[Math.floor(random() * files.length)]
      if (file === undefined || file.content.length === 0) return undefined
      const at = Math.floor(random() * file.content.length)
      const right = file.content[at]!
      const wrong = right ^ (1 << Math.floor(random() * 8))
      const change = (from: number, to: number) => {
        for (const content of [file.content, file.durable]) if (content[at] === from) content[at] = to
      }
      change(right, wrong)
      return () => change(wrong, right)
    },
    endProcess: restart,
    losePower() {
      forget(root, random)
      restart()
    },
  }
}

function read({ content }: SimulatedFile, into: Buffer, position: number): number {
  const found = content.subarray(position, position + into.length)
  into.set(found)
  return found.length
}

function identityOf({ id, content }: SimulatedFile): FileIdentity {
  return { id, size: content.length }
}

function filesBelow(directory: SimulatedDirectory): SimulatedFile[] {
  return [...directory.entries.values()].flatMap((node) =>
    node instanceof SimulatedFile ? [node] : filesBelow(node),
  )
}

function forget(node: Node, random: () => number): void {
  if (node instanceof SimulatedFile) {
    node.lose(random)
    node.content = node.durable
    return
  }
  for (const change of node.changes) if (random() < 0.5) applyTo(node.durable, change)
  node.entries = new Map(node.durable)
  node.changes = []
  for (const entry of node.entries.values()) forget(entry, random)
}

/** Ignores a change of a name that does not exist, since the change that would have created it was lost. */
function applyTo(entries: Map<string, Node>, change: DirectoryChange): void {
  if ('added' in change) {
    entries.set(change.added, change.node)
  } else if ('removed' in change) {
    entries.delete(change.removed)
  } else {
    const node = entries.get(change.renamed)
    if (node === undefined) return
    entries.delete(change.renamed)
    entries.set(change.to, node)
  }
}

/** The content of a file after a random subset of its changes was lost. */
function keptOf({ durable, changes, synced }: SimulatedFile, random: () => number): Buffer {
  let kept = durable
  for (const change of changes) {
    const pieces = 'size' in change ? [change] : sectorsOf(change.bytes, change.at)
    // All or nothing must be likely too: it finds other faults than losing single sectors.
    const chance = synced.has(change) ? 1 : [0, 0.5, 0.5, 1][Math.floor(random() * 4)]!
    for (const piece of pieces) if (random() < chance) kept = changed(kept, piece)
  }
  return kept
}

function sectorsOf(bytes: Buffer, at: number): { readonly at: number; readonly bytes: Buffer }[] {
  const pieces = []
  for (let start = 0; start < bytes.length; ) {
    const end = Math.min(bytes.length, start + sectorBytes - ((at + start) % sectorBytes))
    pieces.push({ at: at + start, bytes: bytes.subarray(start, end) })
    start = end
  }
  return pieces
}

/** Returns a changed copy. Durable and current contents share buffers, so no buffer is changed in place. */
function changed(content: Buffer, change: FileChange): Buffer {
  const size = 'size' in change ? change.size : Math.max(content.length, change.at + change.bytes.length)
  const copy = Buffer.alloc(size)
  copy.set(content.subarray(0, size))
  if ('bytes' in change) copy.set(change.bytes, change.at)
  return copy
}
