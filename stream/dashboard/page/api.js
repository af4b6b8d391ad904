// Asking the server. Null: not there (any more).

export async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(15000), credentials: "same-origin" });
  if (answer.status === 401) location.reload();
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.text()).trim()}`);
  return answer.json();
}
