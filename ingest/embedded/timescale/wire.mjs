// PostgreSQL wire protocol 3.0, framing only: bytes to messages and values to bytes.
// Pure: no socket, no engine, no state beyond a reader's unfinished tail. Source of every layout:
// PostgreSQL documentation, chapter "Frontend/Backend Protocol", section "Message Formats".

export const SSL_REQUEST = 80877103
export const GSS_REQUEST = 80877104
export const CANCEL_REQUEST = 80877102
const PROTOCOL_3 = 3

// A message longer than this is a broken or hostile client; PostgreSQL's own limit is 1 GiB.
const MAX_MESSAGE_BYTES = 1 << 30

/** Cuts a byte stream into messages; before the startup packet there is no type byte. */
export class FrontendReader {
  #chunks = []
  #bytes = 0
  #started = false

  /** Adds *chunk*; returns the complete messages as `{type, body}`, type '' for startup packets. */
  feed(chunk) {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    const messages = []
    for (;;) {
      const header = this.#started ? 5 : 4
      if (this.#bytes < header) return messages
      const head = this.#peek(header)
      const length = head.readInt32BE(header - 4)
      if (length < 4 || length > MAX_MESSAGE_BYTES) throw new Error(`message length ${length} out of range`)
      const total = header - 4 + length
      if (this.#bytes < total) return messages
      const whole = this.#peek(total)
      this.#chunks = whole.length > total ? [whole.subarray(total)] : []
      this.#bytes -= total
      const type = this.#started ? String.fromCharCode(whole[0]) : ''
      const body = whole.subarray(header, total)
      if (!this.#started && body.length >= 4 && body.readInt32BE(0) >>> 16 === PROTOCOL_3) this.#started = true
      messages.push({ type, body })
    }
  }

  // One buffer that starts at the read position and holds at least *length* bytes.
  #peek(length) {
    if (this.#chunks[0].length < length) this.#chunks = [Buffer.concat(this.#chunks)]
    return this.#chunks[0]
  }
}

/** Splits an engine's answer into `{type, body, raw}`; the engine only ever writes whole messages. */
export function splitBackend(data) {
  const messages = []
  let offset = 0
  while (offset < data.length) {
    const end = offset + 1 + data.readInt32BE(offset + 1)
    messages.push({
      type: String.fromCharCode(data[offset]),
      body: data.subarray(offset + 5, end),
      raw: data.subarray(offset, end),
    })
    offset = end
  }
  return messages
}

/** One message: type byte, length, body parts. Parts are Buffers, or strings sent as UTF-8 with a NUL. */
export function message(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? cstring(part) : part)))
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

export const cstring = (text) => Buffer.from(text + '\0', 'utf8')

function int16(value) {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

export function int32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** The NUL-terminated string at *offset* and the offset behind it. */
export function readCstring(body, offset = 0) {
  const end = body.indexOf(0, offset)
  if (end < 0) throw new Error('unterminated string in a message')
  return [body.toString('utf8', offset, end), end + 1]
}

/** Startup packet: `{minor, parameters}`; parameters is a Map in the order sent. */
export function readStartup(body) {
  const parameters = new Map()
  let offset = 4
  while (offset < body.length && body[offset] !== 0) {
    const [name, valueAt] = readCstring(body, offset)
    const [value, next] = readCstring(body, valueAt)
    parameters.set(name, value)
    offset = next
  }
  return { minor: body.readInt32BE(0) & 0xffff, parameters }
}

/** Bind: both names, `values` (up to the result formats), `tail` (with them), the first result format. */
export function readBind(body) {
  const [portal, statementAt] = readCstring(body)
  const [statement, valuesAt] = readCstring(body, statementAt)
  let offset = valuesAt
  offset += 2 + 2 * body.readInt16BE(offset)
  const count = body.readInt16BE(offset)
  offset += 2
  for (let i = 0; i < count; i++) offset += 4 + Math.max(0, body.readInt32BE(offset))
  const formats = body.readInt16BE(offset)
  return {
    portal,
    statement,
    values: body.subarray(valuesAt, offset),
    tail: body.subarray(valuesAt),
    binaryResult: formats > 0 && body.readInt16BE(offset + 2) === 1,
  }
}

/** The fields of an ErrorResponse or NoticeResponse, by their one-letter codes. */
export function readFields(body) {
  const fields = {}
  let offset = 0
  while (body[offset] !== 0) {
    const code = String.fromCharCode(body[offset])
    ;[fields[code], offset] = readCstring(body, offset + 1)
  }
  return fields
}

/** The columns of a DataRow sent as text, null for NULL. */
export function readColumns(body) {
  const columns = []
  let offset = 2
  for (let i = body.readInt16BE(0); i > 0; i--) {
    const length = body.readInt32BE(offset)
    offset += 4
    columns.push(length < 0 ? null : body.toString('utf8', offset, offset + length))
    offset += Math.max(0, length)
  }
  return columns
}

export const query = (sql) => message('Q', sql)
export const sync = () => message('S')
export const parameterStatus = (name, value) => message('S', name, value)
export const commandComplete = (tag) => message('C', tag)
export const readyForQuery = (status) => message('Z', Buffer.from(status, 'latin1'))

/** ErrorResponse; *severity* FATAL says that the connection ends with it. */
export function errorResponse({ code, text, hint, severity = 'ERROR' }) {
  const fields = ['S' + severity, 'V' + severity, 'C' + code, 'M' + text]
  if (hint !== undefined) fields.push('H' + hint)
  return message('E', ...fields, Buffer.from([0]))
}

export function notice({ code, text }) {
  return message('N', 'SWARNING', 'VWARNING', 'C' + code, 'M' + text, Buffer.from([0]))
}

/** RowDescription of one column. */
export function rowDescription(name, typeOid, typeBytes) {
  return message('T', int16(1), name, int32(0), int16(0), int32(typeOid), int16(typeBytes), int32(-1), int16(0))
}

/** DataRow of one column. */
export const dataRow = (value) => message('D', int16(1), int32(value.length), value)
