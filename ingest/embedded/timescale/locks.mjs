// Advisory locks of connections. PostgreSQL keeps them per session, and a session may take its own
// lock again; connections that share one session would never exclude each other. So the locks of
// sessions live here, and the engine's own stay unused. Pure but for the promises it resolves.

export class AdvisoryLocks {
  // key -> { holders: Map(connection -> {exclusive, shared}), waiting: [{connection, shared, granted}] }
  #locks = new Map()

  /** Takes *key* at once if no other connection's lock forbids it; says whether it did. */
  tryTake(connection, key, shared) {
    const lock = this.#locks.get(key)
    if (lock !== undefined && !grantable(lock, connection, shared)) return false
    const held = this.#entry(key, connection)
    held[shared ? 'shared' : 'exclusive']++
    return true
  }

  /** Whether *key* could be taken now. */
  isFree(connection, key, shared) {
    const lock = this.#locks.get(key)
    return lock === undefined || grantable(lock, connection, shared)
  }

  /** For a *key* that tryTake refused: true once held, false after *timeoutMs* (0: never) or releaseAll. */
  take(connection, key, shared, timeoutMs) {
    return new Promise((resolve) => {
      const lock = this.#locks.get(key)
      const waiter = { connection, shared, granted: resolve }
      lock.waiting.push(waiter)
      const timer = timeoutMs > 0 ? setTimeout(() => this.#giveUp(key, waiter), timeoutMs) : undefined
      waiter.granted = (taken) => {
        clearTimeout(timer)
        resolve(taken)
      }
    })
  }

  /** Releases one hold of *key*; false when *connection* has none. */
  release(connection, key, shared) {
    const held = this.#locks.get(key)?.holders.get(connection)
    const mode = shared ? 'shared' : 'exclusive'
    if (held === undefined || held[mode] === 0) return false
    held[mode]--
    this.#settle(key)
    return true
  }

  /** Releases everything *connection* holds; with *waits*, ends what it waits for too. */
  releaseAll(connection, waits = true) {
    for (const [key, lock] of [...this.#locks]) {
      lock.holders.delete(connection)
      if (waits) {
        for (const waiter of lock.waiting.filter((other) => other.connection === connection)) {
          this.#giveUp(key, waiter)
        }
      }
      this.#settle(key)
    }
  }

  #entry(key, connection) {
    if (!this.#locks.has(key)) this.#locks.set(key, { holders: new Map(), waiting: [] })
    const { holders } = this.#locks.get(key)
    if (!holders.has(connection)) holders.set(connection, { exclusive: 0, shared: 0 })
    return holders.get(connection)
  }

  #giveUp(key, waiter) {
    const lock = this.#locks.get(key)
    if (lock !== undefined) lock.waiting = lock.waiting.filter((other) => other !== waiter)
    waiter.granted(false)
    this.#settle(key)
  }

  // Drops empty holds, then grants in the order of arrival until one must go on waiting.
  #settle(key) {
    const lock = this.#locks.get(key)
    if (lock === undefined) return
    for (const [connection, held] of lock.holders) {
      if (held.exclusive === 0 && held.shared === 0) lock.holders.delete(connection)
    }
    while (lock.waiting.length > 0 && grantable(lock, lock.waiting[0].connection, lock.waiting[0].shared)) {
      const { connection, shared, granted } = lock.waiting.shift()
      this.#entry(key, connection)[shared ? 'shared' : 'exclusive']++
      granted(true)
    }
    if (lock.holders.size === 0 && lock.waiting.length === 0) this.#locks.delete(key)
  }
}

function grantable(lock, connection, shared) {
  for (const [other, held] of lock.holders) {
    if (other !== connection && (held.exclusive > 0 || !shared)) return false
  }
  return true
}
