import { HoldfastError } from '../../domain/errors.ts'
import { protocolError } from './endpoint.ts'
import type { HandshakeStream } from './handshake-stream.ts'
import { decodeBlockSizes, decodeExport, defaultBlockSizes, type BlockSizes, type NbdExport } from './nbd-export.ts'
import {
  encodeGo,
  encodeMetaContextQuery,
  encodeOption,
  GREETING_MAGIC,
  handshakeFlags,
  infoTypes,
  NEWSTYLE_MAGIC,
  OLDSTYLE_MAGIC,
  OPTION_REPLY_MAGIC,
  optionErrors,
  optionReplies,
  options,
  readableText,
  STRING_BYTES_MAX,
} from './protocol.ts'

/** An export with what only this connection knows of it. */
export interface Negotiated {
  export: NbdExport
  structuredReplies: boolean
  /** Names of the granted metadata contexts by the id the server gave them. */
  contextNames: ReadonlyMap<number, string>
}

export interface Wishes {
  exportName: string
  structuredReplies: boolean
  metaContexts: readonly string[]
}

interface Conversation {
  stream: HandshakeStream
  send: (bytes: Buffer) => void
}

interface OptionReply {
  type: number
  data: Buffer
}

/** Two numbers and the longest string: no reply to the options we send is longer. */
const OPTION_REPLY_BYTES_MAX = STRING_BYTES_MAX + 16
/** More replies than this to one option come from a server that does not mean to end. */
const OPTION_REPLIES_MAX = 256

/**
 * Speaks the handshake up to the transmission phase. NBD protocol, section "Fixed newstyle negotiation".
 * A server without NBD_OPT_GO is asked with NBD_OPT_EXPORT_NAME; one without structured replies or a metadata context
 * simply does not grant them. Throws NBD_PROTOCOL_ERROR or NBD_CONNECT_FAILED.
 */
export async function negotiate(conversation: Conversation, wishes: Wishes): Promise<Negotiated> {
  const { fixedNewstyle, noZeroes } = await greet(conversation)
  if (!fixedNewstyle) {
    return { export: await enterByName(conversation, wishes, noZeroes, []), structuredReplies: false, contextNames: new Map() }
  }
  const structuredReplies =
    (wishes.structuredReplies || wishes.metaContexts.length > 0) && (await askForStructuredReplies(conversation))
  const contextNames =
    structuredReplies && wishes.metaContexts.length > 0 ? await askForContexts(conversation, wishes) : new Map<number, string>()
  const granted = [...contextNames.values()]
  const entered = (await enterByGo(conversation, wishes, granted)) ?? (await enterByName(conversation, wishes, noZeroes, granted))
  return { export: entered, structuredReplies, contextNames }
}

async function greet({ stream, send }: Conversation): Promise<{ fixedNewstyle: boolean; noZeroes: boolean }> {
  const greeting = await stream.read(18)
  if (greeting.readBigUInt64BE(0) !== GREETING_MAGIC)
    throw protocolError(stream.endpoint, 'its first bytes are not those of an NBD server')
  const style = greeting.readBigUInt64BE(8)
  if (style === OLDSTYLE_MAGIC)
    throw protocolError(stream.endpoint, 'it speaks the oldstyle handshake, which was withdrawn in 2012')
  if (style !== NEWSTYLE_MAGIC) throw protocolError(stream.endpoint, 'its greeting names an unknown handshake')
  const offered = greeting.readUInt16BE(16)
  const accepted = offered & (handshakeFlags.fixedNewstyle | handshakeFlags.noZeroes)
  const flags = Buffer.alloc(4)
  flags.writeUInt32BE(accepted, 0)
  send(flags)
  return { fixedNewstyle: (accepted & handshakeFlags.fixedNewstyle) !== 0, noZeroes: (accepted & handshakeFlags.noZeroes) !== 0 }
}

async function askForStructuredReplies(conversation: Conversation): Promise<boolean> {
  conversation.send(encodeOption(options.structuredReply))
  const reply = await readOptionReply(conversation.stream, options.structuredReply)
  if (reply.type === optionReplies.ack) return true
  if (isError(reply)) return false
  throw unexpected(conversation.stream, options.structuredReply, reply)
}

async function askForContexts({ stream, send }: Conversation, wishes: Wishes): Promise<Map<number, string>> {
  send(encodeOption(options.setMetaContext, encodeMetaContextQuery(wishes.exportName, wishes.metaContexts)))
  const names = new Map<number, string>()
  for (;;) {
    const reply = await readOptionReply(stream, options.setMetaContext)
    if (reply.type === optionReplies.ack) return names
    // A refusal here is not ours to judge: a missing export shows again, with its own message, at NBD_OPT_GO.
    if (isError(reply)) return new Map()
    if (reply.type !== optionReplies.metaContext || reply.data.length < 5) throw unexpected(stream, options.setMetaContext, reply)
    const id = reply.data.readUInt32BE(0)
    const name = reply.data.toString('utf8', 4)
    if (!wishes.metaContexts.includes(name) || names.has(id) || [...names.values()].includes(name)) {
      throw protocolError(
        stream.endpoint,
        `it granted the metadata context "${readableText(reply.data.subarray(4))}" unasked or twice`,
      )
    }
    names.set(id, name)
  }
}

/** NBD_OPT_GO. `null` when the server does not know the option. */
async function enterByGo({ stream, send }: Conversation, wishes: Wishes, metaContexts: string[]): Promise<NbdExport | null> {
  send(encodeOption(options.go, encodeGo(wishes.exportName, [infoTypes.blockSize])))
  let facts: ReturnType<typeof decodeExport> | null = null
  let sizes: BlockSizes = defaultBlockSizes
  for (let replies = 0; replies < OPTION_REPLIES_MAX; replies++) {
    const reply = await readOptionReply(stream, options.go)
    if (reply.type === optionReplies.ack) {
      if (!facts) throw protocolError(stream.endpoint, 'it granted the export without telling its size')
      return { ...facts, ...sizes, metaContexts }
    }
    if (reply.type === optionErrors.unsupported) return null
    if (isError(reply)) throw refusal(stream, wishes, reply)
    if (reply.type !== optionReplies.info || reply.data.length < 2) throw unexpected(stream, options.go, reply)
    const info = reply.data.readUInt16BE(0)
    const body = reply.data.subarray(2)
    if (info === infoTypes.export) facts = decodeExport(exactly(10, body, stream), stream.endpoint)
    // Information of other kinds (names, descriptions) may come unasked and is to be ignored.
    if (info === infoTypes.blockSize) sizes = decodeBlockSizes(exactly(12, body, stream), stream.endpoint)
  }
  throw protocolError(stream.endpoint, 'it answers NBD_OPT_GO without end')
}

/** NBD_OPT_EXPORT_NAME: the only way in without NBD_OPT_GO. A server that lacks the export hangs up. */
async function enterByName(
  { stream, send }: Conversation,
  wishes: Wishes,
  noZeroes: boolean,
  metaContexts: string[],
): Promise<NbdExport> {
  send(encodeOption(options.exportName, Buffer.from(wishes.exportName, 'utf8')))
  const facts = decodeExport(await stream.read(10), stream.endpoint)
  if (!noZeroes) await stream.read(124)
  return { ...facts, ...defaultBlockSizes, metaContexts }
}

async function readOptionReply(stream: HandshakeStream, option: number): Promise<OptionReply> {
  const head = await stream.read(20)
  if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC)
    throw protocolError(stream.endpoint, `its reply to option ${option} has a wrong magic`)
  if (head.readUInt32BE(8) !== option)
    throw protocolError(stream.endpoint, `it answered option ${head.readUInt32BE(8)}, asked was ${option}`)
  const lengthBytes = head.readUInt32BE(16)
  if (lengthBytes > OPTION_REPLY_BYTES_MAX)
    throw protocolError(stream.endpoint, `its reply to option ${option} claims ${lengthBytes} bytes`)
  return { type: head.readUInt32BE(12), data: await stream.read(lengthBytes) }
}

function isError(reply: OptionReply): boolean {
  return reply.type >= 0x80000000
}

function exactly(lengthBytes: number, body: Buffer, stream: HandshakeStream): Buffer {
  if (body.length !== lengthBytes)
    throw protocolError(stream.endpoint, `information of ${body.length} bytes where ${lengthBytes} belong`)
  return body
}

function unexpected(stream: HandshakeStream, option: number, reply: OptionReply): HoldfastError {
  return protocolError(
    stream.endpoint,
    `its reply to option ${option} has the unexpected type ${reply.type} and ${reply.data.length} bytes`,
  )
}

const refusals: Record<number, string> = {
  [optionErrors.policy]: 'its policy forbids it',
  [optionErrors.invalid]: 'it finds the request invalid',
  [optionErrors.platform]: 'its platform does not support it',
  [optionErrors.tlsRequired]: 'it requires TLS, which this client does not speak',
  [optionErrors.unknownExport]: 'it has no export of this name',
  [optionErrors.shutdown]: 'it is shutting down',
  [optionErrors.blockSizeRequired]: 'it insists on its block sizes',
  [optionErrors.tooBig]: 'the request is too big for it',
}

function refusal(stream: HandshakeStream, wishes: Wishes, reply: OptionReply): HoldfastError {
  const why = refusals[reply.type] ?? `error ${reply.type}`
  const said = readableText(reply.data)
  return new HoldfastError(
    'NBD_CONNECT_FAILED',
    `The NBD server at ${stream.endpoint} refuses the export "${wishes.exportName}": ${why}${said ? ` ("${said}")` : ''}.`,
    { details: { endpoint: stream.endpoint, exportName: wishes.exportName }, retryable: reply.type === optionErrors.shutdown },
  )
}
