import dns from 'node:dns'
import http from 'node:http'
import https from 'node:https'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { changeError } from '../failure.ts'

/** The hosts that a webhook may connect to, and how. */
export interface ConnectionOptions {
  /**
   * Addresses that are not public and may be connected to all the same: single ones or ranges, for example
   * `['127.0.0.1', '10.1.0.0/16', 'fd00::/8']`. Default: none.
   */
  readonly allowAddresses?: readonly string[]
  /** Looks up the address of a host name; each address that it returns is checked. Default: that of the system. */
  readonly lookup?: LookupFunction
  /** Certificate authorities to trust in place of the system's, PEM. */
  readonly ca?: string | readonly string[]
  /** Makes the connections instead, for example through a proxy. Then it decides about addresses, lookup and CA. */
  readonly agent?: http.Agent
}

/**
 * Connects to public addresses, and to those that the operator has allowed. Each is checked when a connection
 * to it is made, since a name may mean another one a moment later (DNS rebinding).
 */
export class Connections {
  readonly #allowed: BlockList
  readonly #agents: { readonly 'http:': http.Agent; readonly 'https:': http.Agent }
  readonly #checks: boolean

  constructor({ allowAddresses, lookup = dns.lookup, ca, agent }: ConnectionOptions) {
    if (agent && (allowAddresses ?? ca ?? (lookup === dns.lookup ? undefined : lookup)) !== undefined) {
      throw invalid('`agent` makes its own connections: give it without `allowAddresses`, `lookup` and `ca`')
    }
    this.#allowed = rangesOf(allowAddresses ?? [])
    this.#checks = agent === undefined
    const options = { keepAlive: true, lookup: this.#checked(lookup) }
    const trust = ca === undefined ? {} : { ca: typeof ca === 'string' ? ca : [...ca] }
    this.#agents = {
      'http:': agent ?? new http.Agent(options),
      'https:': agent ?? new https.Agent({ ...options, ...trust }),
    }
  }

  /** Checks an address that is written as numbers; names are checked when they are looked up. */
  check({ hostname }: URL): void {
    const address = hostname.replace(/^\[|\]$/g, '')
    if (this.#checks && isIP(address) !== 0 && !this.#mayReach(address)) throw notAllowed(hostname)
  }

  /**
   * Posts, and resolves to the answer, whose body the caller reads or discards. Follows no redirects.
   * @throws HenceError `address-not-allowed` (change), and the errors of `node:http`
   */
  post(address: URL, headers: Headers, body: string, signal: AbortSignal): Promise<http.IncomingMessage> {
    this.check(address)
    const isSecure = address.protocol === 'https:'
    const { request } = isSecure ? https : http
    const agent = this.#agents[isSecure ? 'https:' : 'http:']
    const options = { method: 'POST', headers: Object.fromEntries(headers), agent, signal }
    return new Promise((resolve, reject) => {
      request(address, options, resolve).on('error', reject).on('close', cut).end(body)
      function cut() {
        // After a response or an error this changes nothing.
        reject(new Error('The connection ended without an answer.'))
      }
    })
  }

  #checked(lookup: LookupFunction): LookupFunction {
    return (host, options, callback) => {
      lookup(host, { ...options, all: true }, (error, found, family) => {
        if (error) return callback(error, [])
        const all = typeof found === 'string' ? [{ address: found, family: family ?? isIP(found) }] : found
        const usable = all.filter(({ address }) => this.#mayReach(address))
        const [first] = usable
        if (first === undefined) return callback(notAllowed(host), [])
        if (options.all) callback(null, usable)
        else callback(null, first.address, first.family)
      })
    }
  }

  #mayReach(address: string): boolean {
    const family = isIP(address)
    if (family === 0) return false
    const type = family === 6 ? 'ipv6' : 'ipv4'
    return this.#allowed.check(address, type) || isPublic(address, type)
  }
}

/** Gives the connection back if the answer has ended, else closes it. */
export function discard(response: http.IncomingMessage): void {
  if (response.complete) response.resume()
  else response.destroy()
}

/** Whether everybody means the same host by this address, by the registries of IANA for special addresses. */
function isPublic(address: string, type: 'ipv4' | 'ipv6'): boolean {
  // A list of IPv4 ranges also has the same addresses written as IPv6, `::ffff:127.0.0.1`.
  if (special.check(address, type)) return false
  return type === 'ipv4' || mapped.check(address, type) || unicast.check(address, type)
}

/** Ranges that are private, of the machine or its link, shared, reserved, for documents or for groups. */
const special = rangesOf([
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12'],
  ...['192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15'],
  ...['198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
  // Azure answers its machines here, like others at 169.254.169.254.
  '168.63.129.16',
  // Teredo and 6to4 have an IPv4 address inside.
  ...['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'],
])
const mapped = rangesOf(['::ffff:0:0/96'])
/** All that is public in IPv6 lies here; so local addresses and NAT64 are outside. */
const unicast = rangesOf(['2000::/3'])

function rangesOf(texts: readonly string[]): BlockList {
  const ranges = new BlockList()
  for (const text of texts) {
    const [address = '', bits, ...more] = text.split('/')
    const family = isIP(address)
    const max = family === 6 ? 128 : 32
    const prefix = bits === undefined ? max : Number(bits)
    if (family === 0 || more.length > 0 || !/^\d*$/.test(bits ?? '') || bits === '' || prefix > max)
      throw invalid(`${JSON.stringify(text)} in \`allowAddresses\` is neither an address nor a range`)
    ranges.addSubnet(address, prefix, family === 6 ? 'ipv6' : 'ipv4')
  }
  return ranges
}

const notAllowed = (host: string) =>
  changeError(
    'address-not-allowed',
    `The address of ${host} is not public, so nothing was sent there. If you intend that, allow it ` +
      `(\`allowAddresses\`).`,
  )

const invalid = (what: string) =>
  changeError(
    'option-invalid',
    `A webhook was made with an invalid option: ${what}. Write addresses like "127.0.0.1", ranges like "10.0.0.0/8".`,
  )
