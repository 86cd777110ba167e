/** How a file server is named: a host name, an IPv4 address, or an IPv6 address without brackets. */

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i
const IPV4 = /^(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}$/
/** What resolvers read as a number in one of its odd spellings: `0x7f000001`, `127.1`. */
const NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/i

/** The one spelling of an address: lower case, the shortest IPv6; `null` when it is none. */
export function normalServerAddress(text: string): string | null {
  if (text.includes(':')) return normalIpv6(text)
  if (IPV4.test(text)) return text
  const labels = text.split('.')
  const isName = text.length <= 253 && labels.every((label) => LABEL.test(label)) && !NUMBER.test(labels.at(-1) ?? '')
  return isName ? text.toLowerCase() : null
}

/** With brackets where a colon would be taken for something else. */
export function bracketedAddress(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}

function normalIpv6(text: string): string | null {
  if (!/^[0-9a-f:.]{2,45}$/i.test(text)) return null
  const url = URL.parse(`http://[${text}]/`)
  return url === null ? null : url.hostname.slice(1, -1)
}
