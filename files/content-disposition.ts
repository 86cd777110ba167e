/** The name under which a browser saves a download. Names of files hold anything; headers do not. */

/** Plain in every header, and harmless in every file system. */
const PLAIN = /[^A-Za-z0-9 ._()+,=@~#-]/gu
/** What `encodeURIComponent` leaves alone although RFC 8187 does not. */
const RESERVED = /['()*]/g

/**
 * For people of our time `filename*` holds the very name; for older programs `filename` has `_` for whatever is not plain ASCII. Both end up as a
 * name in the folder of downloads: no character of either is a separator.
 */
export function contentDisposition(name: string): string {
  const wellFormed = name.toWellFormed()
  const exact = encodeURIComponent(wellFormed).replace(
    RESERVED,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename="${wellFormed.replace(PLAIN, '_')}"; filename*=UTF-8''${exact}`
}
