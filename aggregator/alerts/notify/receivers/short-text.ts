/** Well-formed Unicode without control characters, except line breaks and tabs where `lines` says so. */
export function printable(text: string, lines = false): string {
  const wellFormed = text.toWellFormed();
  if (!lines) return wellFormed.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim();
  return wellFormed.replaceAll(/\r\n?/g, '\n').replaceAll(/[^\P{Cc}\n\t]/gu, '');
}

/** At most `max` UTF-16 units, an ellipsis instead of what is cut; no character is cut in two. */
export function shortened(text: string, max: number): string {
  if (text.length <= max) return text;
  const end = max - 1;
  const pair = /[\ud800-\udbff]/.test(text[end - 1] ?? '');
  return `${text.slice(0, pair ? end - 1 : end)}…`;
}

/** The URL where it is one that a browser opens; undefined for the rest: javascript: and its like. */
export function webLink(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : undefined;
}
