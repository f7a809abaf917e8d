/** Takes away what the oldest browsers that the README names lack: whatever then fails uses it. */
new Headers(); // Node.js loads what it belongs to only now, and that needs some of them
for (const name of ["throwIfAborted", "reason"]) delete AbortSignal.prototype[name];
for (const name of ["any", "timeout", "abort"]) delete AbortSignal[name];
for (const name of ["at", "findLast", "findLastIndex", "toReversed", "toSorted", "toSpliced", "with"]) {
  delete Array.prototype[name];
}
for (const name of ["hasOwn", "groupBy"]) delete Object[name];
for (const name of ["withResolvers", "try"]) delete Promise[name];
for (const name of ["union", "intersection", "difference", "isSubsetOf"]) delete Set.prototype[name];
delete Map.groupBy;
delete Array.fromAsync;
delete crypto.randomUUID;
delete globalThis.structuredClone;
delete globalThis.reportError;
