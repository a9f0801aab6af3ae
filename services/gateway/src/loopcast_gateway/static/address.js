// The page's address: `#experiment`, or `#experiment/run`, each percent-encoded; without either, everything. Pure.

export const ALL = "*";

/** `{ experiment, run }` of an address's hash; `run` is null for the newest. */
export function read(hash) {
  try {
    const [experiment, run = ""] = hash.replace(/^#/, "").split("/").map(decodeURIComponent);
    return { experiment: experiment || ALL, run: (experiment && run) || null };
  } catch {
    return { experiment: ALL, run: null }; // Somebody cut an escape in two.
  }
}

/** The hash that `read` reads, "" for everything. */
export function write(experiment, run = null) {
  if (experiment === ALL) return "";
  return `#${encodeURIComponent(experiment)}${run === null ? "" : `/${encodeURIComponent(run)}`}`;
}
