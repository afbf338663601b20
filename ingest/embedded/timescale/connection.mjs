// One client: reads its messages in order, answers them, borrows the session while it needs it.
// Owns the client's socket, its statement names and the protocol's state (skipping to Sync after an
// error). Must not touch another connection. Runs as one async loop per client.

import { classify } from './sql.mjs'
import { EngineError } from './engine.mjs'
import { answerAdvisory } from './advisory.mjs'
import { copyIn } from './copy.mjs'
import { admit } from './startup.mjs'
import {
  FrontendReader, errorResponse, message, parameterStatus, query, readBind, readColumns, readCstring, readyForQuery,
  sync,
} from './wire.mjs'

// Unread messages a client may pile up while it waits for the session before its socket is paused.
const INBOX_BYTES = 16 * 1024 * 1024
// Answers are collected and sent when the client is waited for; a large result goes in pieces.
const OUTBOX_BYTES = 1024 * 1024

const REFUSED = {
  copy: {
    code: '0A000',
    text: 'the embedded database takes COPY … FROM STDIN only as a simple query of its own',
    hint: 'Send it as one statement, without parameters and without other statements beside it.',
  },
  advisory: {
    code: '0A000',
    text: 'the embedded database keeps advisory locks only for the plain form: select pg_advisory_lock(key)',
    hint: 'Take the lock in a statement of its own, or use pg_advisory_xact_lock.',
  },
}

export class Connection {
  #socket
  #options
  #reader = new FrontendReader()
  #inbox = []
  #inboxBytes = 0
  #outbox = []
  #outboxBytes = 0
  #wake = null
  #sequence = 0
  #portals = new Map()
  // Extended protocol since the last Sync: anything sent, anything bound, an error to skip from.
  #unsynced = false
  #bound = false
  #skipping = false
  // Done once the session is idle again: settings to learn ('reset', 'ask'), channels, statements to drop.
  #learn = null
  #listens = []
  #deallocations = []
  closed = false
  statements = new Map()
  channels = new Set()
  hasTemporary = false
  startupSettings = new Map()
  defaults = new Map()
  settings = new Map()
  reported = new Map()

  constructor(id, socket, session, options) {
    this.id = id
    this.processId = id
    this.session = session
    this.#socket = socket
    this.#options = options
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('error', () => {}) // 'close' follows and says all there is to say
    socket.on('close', () => this.#gone())
  }

  /** Serves the client until it leaves; raises only what is wrong with the engine or this program. */
  async run() {
    try {
      if (!(await admit(this, this.#options))) return
      for (let next = await this.next(); next !== null; next = await this.next()) {
        if (!(await this.#handle(next))) break
        if (this.#inbox.length === 0) await this.#park()
      }
    } catch (error) {
      if (!(error instanceof EngineError)) throw error
      this.fatal({ code: error.fields.C, text: error.fields.M, hint: error.fields.H })
    } finally {
      this.flush()
      this.#socket.end()
      await this.session.leave(this)
    }
  }

  /** The next message, null once the client is gone. Who holds the session may not keep it waiting. */
  async next() {
    if (this.#inbox.length === 0 && !this.closed) {
      this.flush()
      const limitMs = this.session.holds(this) ? this.#silenceLimitMs() : 0
      const timer = limitMs > 0 ? setTimeout(() => this.#tooSilent(limitMs), limitMs) : undefined
      await new Promise((resolve) => (this.#wake = resolve))
      clearTimeout(timer)
    }
    const next = this.#inbox.shift() ?? null
    if (next !== null) this.#inboxBytes -= next.body.length
    if (this.#socket.isPaused() && this.#inboxBytes < INBOX_BYTES) this.#socket.resume()
    return this.closed ? null : next
  }

  send(bytes) {
    this.#outbox.push(bytes)
    this.#outboxBytes += bytes.length
    if (this.#outboxBytes > OUTBOX_BYTES) this.flush()
  }

  flush() {
    if (this.#outbox.length > 0 && !this.#socket.destroyed) this.#socket.write(Buffer.concat(this.#outbox))
    this.#outbox = []
    this.#outboxBytes = 0
  }

  /** Says why, then hangs up. */
  fatal(error) {
    this.send(errorResponse({ ...error, severity: 'FATAL' }))
    this.flush()
    this.#socket.destroySoon()
    this.#gone()
  }

  /** Sends an engine's answer on; its ReadyForQuery waits until the bookkeeping is done. */
  async forward(answer) {
    for (const { type, body, raw } of answer) {
      if (type === 'A') this.session.notify(body, this)
      else if (type === 'Z') await this.#ready()
      else if (type !== 'N' || this.#wantsNotice(body)) this.send(raw)
      if (type === 'E') this.#failed()
      if (type === 'C' && body.toString('latin1').startsWith('ROLLBACK')) this.#listens = []
    }
  }

  /** Refuses a statement as the server would: the transaction block, if any, is aborted. */
  async refuse(error) {
    const answer = await this.session.engine.fail(error)
    await this.forward(this.#unsynced ? answer.filter(({ type }) => type !== 'Z') : answer)
  }

  /** Refuses a statement while another connection may hold the session. */
  refuseAway(error) {
    this.send(errorResponse(error))
    if (this.#unsynced) this.#skipping = true
    else this.send(readyForQuery('I'))
  }

  /** Gives the session up in the middle of an extended sequence; only when no transaction block is open. */
  async stepAside() {
    if (this.#unsynced) await this.session.engine.run(sync())
    this.session.release(this)
  }

  async #handle({ type, body }) {
    if (type === 'X') return false
    if (type === 'S') await this.#sync()
    else if (this.#skipping || 'Hdcf'.includes(type)) return true
    else if (!'QPBDECF'.includes(type)) {
      this.fatal({ code: '08P01', text: `unexpected message type ${JSON.stringify(type)}` })
      return false
    } else {
      await this.session.acquire(this)
      if (this.closed) return false
      if (type === 'Q') await this.#simple(readCstring(body)[0])
      else if (type === 'F') await this.forward(await this.session.engine.run(message('F', body)))
      else await this.#extended(type, body)
    }
    return !this.closed
  }

  async #sync() {
    this.#skipping = false
    if (this.session.holds(this)) await this.forward(await this.session.engine.run(sync()))
    else this.send(readyForQuery('I'))
    this.#endSequence()
  }

  #endSequence() {
    this.#unsynced = false
    this.#bound = false
    this.#portals.clear()
  }

  // A client may send Parse and Flush and then nothing for hours: such a sequence needs no session.
  async #park() {
    const engine = this.session.engine
    if (!this.session.holds(this) || !this.#unsynced || engine.status !== 'I') return
    if (this.#bound && !this.#skipping) return
    await engine.run(sync())
    if (engine.status === 'I') await this.#settle()
  }

  async #simple(sql) {
    this.#endSequence() // a simple query ends an extended sequence as Sync does, and never skips
    const facts = classify(sql)
    if (facts.copyIn === 'refused') await this.refuse(REFUSED.copy)
    else if (facts.advisory === 'refused') await this.refuse(REFUSED.advisory)
    else if (facts.copyIn !== null) await copyIn(this, sql, facts.copyIn)
    else if (facts.advisory !== null && this.session.status !== 'E') await this.#simpleAdvisory(sql, facts.advisory)
    else {
      this.#note(facts)
      await this.forward(await this.session.engine.run(query(this.#harmless(sql, facts))))
    }
  }

  async #simpleAdvisory(sql, advisory) {
    const answer = await this.session.engine.run(query(advisory.keySql))
    const row = answer.find(({ type }) => type === 'D')
    if (row === undefined) return await this.forward(answer)
    await answerAdvisory(this, advisory, readColumns(row.body).join(':'), {
      native: () => this.session.engine.run(query(sql)),
      described: false,
      binary: false,
      finish: () => this.forward([{ type: 'Z' }]),
    })
  }

  async #extended(type, body) {
    this.#unsynced = true
    if (type === 'P') await this.#parse(body)
    else if (type === 'B') await this.#bind(body)
    else if (type === 'E') await this.#execute(body)
    else {
      const [name] = readCstring(body, 1)
      const known = this.statements.get(name)
      if (body[0] !== 0x53) await this.#native(message(type, body))
      else if (known !== undefined) await this.#native(message(type, 'S' + known.native))
      else if (type === 'D') await this.#unknownStatement(name)
      else this.send(message('3'))
      if (type === 'C' && body[0] === 0x53) this.statements.delete(name)
    }
  }

  // Names are the connection's own. The unnamed statement gets a name too: another connection may
  // parse its own before this one binds. Portals need none: they end with the transaction.
  async #parse(body) {
    const [name, sqlAt] = readCstring(body)
    const [sql, typesAt] = readCstring(body, sqlAt)
    const types = body.subarray(typesAt)
    const facts = classify(sql)
    if (facts.copyIn !== null) return await this.refuse(REFUSED.copy)
    if (facts.advisory === 'refused') return await this.refuse(REFUSED.advisory)
    const old = this.statements.get(name)
    if (old !== undefined && name !== '') {
      return await this.refuse({ code: '42P05', text: `prepared statement "${name}" already exists` })
    }
    if (old !== undefined) {
      await this.session.engine.run(message('C', 'S' + old.native))
      this.statements.delete(name)
    }
    const native = `c${this.id}_${++this.#sequence}`
    await this.#native(message('P', native, this.#harmless(sql, facts), types))
    if (!this.#skipping && facts.advisory !== null) {
      const keyed = await this.session.engine.run(message('P', native + 'k', facts.advisory.keySql, types))
      await this.forward(keyed.filter(({ type }) => type === 'E'))
    }
    if (!this.#skipping) this.statements.set(name, { native, facts })
  }

  async #bind(body) {
    const { portal, statement, values, tail, binaryResult } = readBind(body)
    const known = this.statements.get(statement)
    if (known === undefined) return await this.#unknownStatement(statement)
    this.#bound = true
    await this.#native(message('B', portal, known.native, tail))
    this.#portals.set(portal, { ...known, values, binaryResult })
  }

  async #execute(body) {
    const portal = this.#portals.get(readCstring(body)[0])
    if (portal?.facts.advisory) return await this.#executeAdvisory(body, portal)
    if (portal !== undefined) this.#note(portal.facts)
    await this.#native(message('E', body))
  }

  async #executeAdvisory(body, { native, facts, values, binaryResult }) {
    const engine = this.session.engine
    await engine.run(message('B', 'advisory key', native + 'k', values, Buffer.from([0, 0])))
    const answer = await engine.run(message('E', 'advisory key', Buffer.alloc(4)))
    await engine.run(message('C', 'Padvisory key'))
    const row = answer.find(({ type }) => type === 'D')
    if (row === undefined) return await this.forward(answer)
    await answerAdvisory(this, facts.advisory, readColumns(row.body).join(':'), {
      native: () => engine.run(message('E', body)),
      described: true,
      binary: binaryResult,
      finish: async () => {},
    })
  }

  async #native(bytes) {
    await this.forward(await this.session.engine.run(bytes))
  }

  async #unknownStatement(name) {
    const called = name === '' ? 'unnamed prepared statement' : `prepared statement "${name}"`
    await this.refuse({ code: '26000', text: `${called} does not exist` })
  }

  // What these facts will need once the session is idle.
  #note(facts) {
    if (facts.settings && this.#learn !== 'ask') this.#learn = facts.resetAll ? 'reset' : 'ask'
    if (facts.temporary) this.hasTemporary = true
    if (facts.unlockAll || facts.discardAll) this.session.locks.releaseAll(this, false)
    if (facts.deallocate !== null) this.#deallocations.push(facts.deallocate)
    if (facts.discardAll) this.#deallocations.push('all')
    if (facts.discardAll) this.#listens.push({ channel: '*', on: false })
    this.#listens.push(...facts.listens)
  }

  // DEALLOCATE and DISCARD ALL would reach every connection's statements: these do the connection's part.
  #harmless(sql, { deallocate, discardAll }) {
    if (discardAll) return 'reset all'
    return deallocate === 'all' || this.statements.has(deallocate) ? 'discard sequences' : sql
  }

  #failed() {
    if (this.#unsynced) this.#skipping = true
    this.#listens = []
    this.#deallocations = []
  }

  async #ready() {
    const status = this.session.holds(this) ? this.session.status : 'I'
    if (status === 'I') await this.#settle()
    this.send(readyForQuery(status))
  }

  // The session is idle: keeps the connection's books, then passes the session on.
  async #settle() {
    for (const name of this.#deallocations) {
      for (const [own, { native }] of [...this.statements]) {
        if (name !== 'all' && name !== own) continue
        await this.session.engine.run(Buffer.concat([message('C', 'S' + native), sync()]))
        this.statements.delete(own)
      }
    }
    for (const { channel, on } of this.#listens) {
      if (on) this.channels.add(channel)
      else if (channel === '*') this.channels.clear()
      else this.channels.delete(channel)
    }
    if (this.#listens.some(({ on }) => !on)) await this.session.listenForOthers()
    if (this.#learn !== null && (await this.session.learnSettings(this, this.#learn === 'reset'))) {
      const now = await this.session.reported()
      for (const [name, value] of now) if (this.reported.get(name) !== value) this.send(parameterStatus(name, value))
      this.reported = now
    }
    this.#learn = null
    this.#listens = []
    this.#deallocations = []
    this.session.release(this)
  }

  #wantsNotice(body) {
    const debugs = this.settings.get('client_min_messages').startsWith('debug')
    return debugs || !body.toString('latin1', 0, 6).startsWith('SDEBUG')
  }

  #silenceLimitMs() {
    const own = Number(this.settings.get('idle_in_transaction_session_timeout') ?? 0)
    return own > 0 ? Math.min(own, this.#options.silenceLimitMs) : this.#options.silenceLimitMs
  }

  #tooSilent(limitMs) {
    this.fatal({
      code: '25P03',
      text: `terminating connection: it held a transaction open and silent for ${limitMs / 1000} s`,
      hint: 'The embedded database has one session for all connections: end each transaction at once.',
    })
  }

  #receive(chunk) {
    try {
      for (const next of this.#reader.feed(chunk)) {
        this.#inbox.push(next)
        this.#inboxBytes += next.body.length
      }
    } catch (error) {
      this.fatal({ code: '08P01', text: `invalid message: ${error.message}` })
    }
    if (this.#inboxBytes > INBOX_BYTES) this.#socket.pause()
    if (this.#inbox.length > 0) this.#wake?.()
  }

  #gone() {
    this.closed = true
    this.session.locks.releaseAll(this)
    this.#wake?.()
  }
}
