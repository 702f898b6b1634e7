// What this tab of the browser keeps until it is closed, also over a reload: texts by key.

export function kept(key) {
  try {
    return sessionStorage.getItem(`piano-${key}`);
  } catch {
    return null; // a page that may keep nothing
  }
}

// null keeps nothing
export function keep(key, text) {
  try {
    if (text === null) sessionStorage.removeItem(`piano-${key}`);
    else sessionStorage.setItem(`piano-${key}`, text);
  } catch {
    // a page that may keep nothing, or no more: the kernel has it
  }
}
