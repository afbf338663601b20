// What a front for one shared session must know of a statement before it runs: does it COPY from
// the client, change settings, listen, make temporary tables, take a session's advisory lock?
// Pure: text in, facts out. It is no SQL parser: it blanks comments and quoted text, then looks at
// how statements begin. What it cannot see (a function that sets a setting behind a plain SELECT)
// is shared by all connections, and that is all that is lost.

const QUOTED = /--[^\n]*|\/\*[\s\S]*?\*\/|\$([A-Za-z_]\w*)?\$[\s\S]*?\$\1\$|(?<![\w"])[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"/g

/** *sql* in lower case, of the same length, with comments and the inside of quotes blanked. */
function mask(sql) {
  const blanked = sql.replace(QUOTED, (text) => {
    if (text.startsWith('--') || text.startsWith('/*')) return ' '.repeat(text.length)
    if (text.startsWith('"')) return '"' + 'x'.repeat(text.length - 2) + '"'
    return "'" + ' '.repeat(text.length - 2) + "'"
  })
  // toLowerCase may change the length of a few letters outside ASCII; only ASCII is looked for.
  return blanked.replace(/[A-Z]+/g, (text) => text.toLowerCase())
}

const SETTINGS = /(?:^|;)\s*(?:set(?!\s+(?:local|transaction|constraints)\b)|reset|discard|do|call)\b|\bset_config\s*\(/
const RESET_ALL = /(?:^|;)\s*(?:reset|discard)\s+all\b/
const OTHER_SETTINGS = /(?:^|;)\s*(?:set(?!\s+(?:local|transaction|constraints)\b)|do|call)\b|\bset_config\s*\(/
const TEMPORARY = /\bcreate\s+(?:(?:global|local)\s+)?temp(?:orary)?\b|\binto\s+temp(?:orary)?\b|\bpg_temp\s*\./
const LISTEN = /(?:^|;)\s*(un)?listen\s+(\*|"x*"|[a-z_\u0080-\uffff][\w$\u0080-\uffff]*)/g
const COPY_IN = /^\s*copy\s[^;]*?\bfrom\s+(stdin)\b[^;]*;?\s*$/
const COPY_IN_AMONG_OTHERS = /(?:^|;)\s*copy\s[^;]*?\bfrom\s+stdin\b/
const COPY_BINARY = /\bformat\s+(?:binary\b|'\s*'|"x*")|\bwith\s+binary\b|^\s*copy\s+binary\b/
const DEALLOCATE = /^\s*deallocate\s+(?:prepare\s+)?("x*"|[a-z_]\w*)\s*;?\s*$/
const DISCARD_ALL = /^\s*discard\s+all\s*;?\s*$/
const ADVISORY = /\bpg_(?:try_)?advisory_(?:xact_)?(?:un)?lock(?:_shared)?\s*\(/
const ADVISORY_PLAIN =
  /^\s*select\s+(?:pg_catalog\s*\.\s*)?pg_(try_)?advisory_(xact_)?(un)?lock(_shared)?\s*\((.*)\)(?:\s+as\s+(\w+))?\s*;?\s*$/s
const UNLOCK_ALL = /\bpg_advisory_unlock_all\s*\(\s*\)/

/**
 * The facts of one statement or script:
 * `copyIn` {sql, binary} | 'refused' | null; `settings`, `resetAll`, `temporary`, `unlockAll` booleans;
 * `listens` [{channel, on}] (channel '*' for all); `deallocate` name | 'all' | null; `discardAll`;
 * `advisory` {take, wait, shared, transaction, keySql, column} | 'refused' | null.
 */
export function classify(sql) {
  const masked = mask(sql)
  const resetAll = RESET_ALL.test(masked)
  return {
    copyIn: copyIn(sql, masked),
    settings: SETTINGS.test(masked),
    // Nothing but RESET ALL among the settings: what is in force afterwards is known without asking.
    resetAll: resetAll && !OTHER_SETTINGS.test(masked),
    temporary: TEMPORARY.test(masked),
    listens: [...masked.matchAll(LISTEN)].map((found) => ({
      channel: identifier(sql.substring(found.index + found[0].length - found[2].length, found.index + found[0].length)),
      on: found[1] === undefined,
    })),
    deallocate: deallocate(sql, masked),
    discardAll: DISCARD_ALL.test(masked),
    unlockAll: UNLOCK_ALL.test(masked),
    advisory: advisory(sql, masked),
  }
}

function copyIn(sql, masked) {
  const found = COPY_IN.exec(masked)
  if (found === null) return COPY_IN_AMONG_OTHERS.test(masked) ? 'refused' : null
  const at = found[0].indexOf('stdin', masked.search(/\bfrom\s+stdin\b/))
  const format = COPY_BINARY.exec(masked)
  const quoted = format !== null && /['"]/.test(format[0])
  const binary =
    format !== null &&
    (!quoted || /binary/i.test(sql.substring(format.index, format.index + format[0].length)))
  return { sql: `${sql.slice(0, at)}'/dev/blob'${sql.slice(at + 5)}`, binary }
}

function deallocate(sql, masked) {
  const found = DEALLOCATE.exec(masked)
  if (found === null) return null
  const at = masked.indexOf(found[1], masked.search(/deallocate/) + 'deallocate'.length)
  return identifier(sql.substring(at, at + found[1].length))
}

function advisory(sql, masked) {
  if (!ADVISORY.test(masked)) return null
  const found = ADVISORY_PLAIN.exec(masked)
  if (found === null) return onlyTransactionLocks(masked) ? null : 'refused'
  const [, tries, transaction, releases, shared] = found
  const open = masked.indexOf('(')
  const keys = splitArguments(sql, masked, open + 1, open + 1 + found[5].length)
  if (keys === null) return transaction !== undefined ? null : 'refused'
  const type = keys.length === 1 ? 'bigint' : 'int'
  return {
    take: releases === undefined,
    wait: tries === undefined,
    shared: shared !== undefined,
    transaction: transaction !== undefined,
    // The key, as text, by a statement with the same parameters: no need to read values off a Bind.
    keySql: `select ${keys.map((key) => `((${key})::${type})::text`).join(', ')}`,
    column: found[6] ?? masked.slice(masked.search(/pg_(?:try_)?advisory/), open).trim(),
  }
}

function onlyTransactionLocks(masked) {
  return !/\bpg_(?:try_)?advisory_(?:un)?lock/.test(masked)
}

// The one or two arguments between *from* and *to*; null when the parenthesis closes earlier.
function splitArguments(sql, masked, from, to) {
  const parts = []
  let depth = 0
  let start = from
  for (let i = from; i < to; i++) {
    if (masked[i] === '(') depth++
    else if (masked[i] === ')' && --depth < 0) return null
    else if (masked[i] === ',' && depth === 0) {
      parts.push(sql.slice(start, i))
      start = i + 1
    }
  }
  parts.push(sql.slice(start, to))
  return depth === 0 && parts.length <= 2 && parts.every((part) => part.trim() !== '') ? parts : null
}

/** The name an identifier in a statement means: folded to lower case unless quoted. */
function identifier(text) {
  return text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text.toLowerCase()
}

export const quoteIdentifier = (name) => `"${name.replaceAll('"', '""')}"`

export function quoteLiteral(text) {
  const inside = text.replaceAll('\\', '\\\\').replaceAll("'", "''")
  return (text.includes('\\') ? ' E' : '') + `'${inside}'`
}
