/**
 * Caches the files of the page, so that it opens without a network. All of them come from one version: a page
 * never has an old script and a new style. Requests to Hence are not cached; the client handles a missing
 * network.
 */
declare const VERSION: string
declare const PATHS: readonly string[]
declare const self: Worker

const cacheName = `seats-${VERSION}`

self.addEventListener('install', (event) => {
  event.waitUntil(
    caches
      .open(cacheName)
      .then((cache) => cache.addAll(PATHS.map((path) => new Request(path, { cache: 'no-cache' }))))
      .then(() => self.skipWaiting()),
  )
})

self.addEventListener('activate', (event) => {
  const old = (name: string) => name.startsWith('seats-') && name !== cacheName
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  )
})

self.addEventListener('fetch', (event) => {
  const { request } = event
  const { origin, pathname } = new URL(request.url)
  if (request.method !== 'GET' || origin !== self.location.origin || !PATHS.includes(pathname)) return
  // A browser that is short of space may have deleted the files.
  event.respondWith(
    caches.open(cacheName).then(async (cache) => (await cache.match(pathname)) ?? fetch(request)),
  )
})

// The used part of a worker's scope, since the types `webworker` and `dom` conflict, and the page needs
// `dom`.

interface Worker {
  readonly location: Location
  readonly clients: { claim(): Promise<void> }
  skipWaiting(): Promise<void>
  addEventListener(type: 'install' | 'activate', listener: (event: WorkerEvent) => void): void
  addEventListener(type: 'fetch', listener: (event: WorkerFetchEvent) => void): void
}

interface WorkerEvent {
  waitUntil(work: Promise<unknown>): void
}

interface WorkerFetchEvent {
  readonly request: Request
  respondWith(response: Promise<Response>): void
}

export {}
