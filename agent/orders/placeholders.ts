/** What an aggregator may fill in, and what it may look like: no dash or slash in front, no space, nothing of a shell. */
const PATTERNS: Readonly<Record<string, RegExp>> = {
  gpu: /^\d{1,3}$/,
  // NVIDIA writes GPU-<UUID> and MIG-<UUID>, AMD a UUID or hexadecimal digits.
  gpu_uuid: /^(?:(?:GPU|MIG)-)?(?:0x)?[0-9A-Fa-f](?:[0-9A-Fa-f-]{0,62}[0-9A-Fa-f])?$/,
  node: /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/,
};

const PLACEHOLDER = /\{([^{}]*)\}/g;

/** The placeholder of an argument that there is not, or undefined. */
export function placeholderFault(argument: string): string | undefined {
  for (const [, name] of argument.matchAll(PLACEHOLDER)) if (!Object.hasOwn(PATTERNS, name!)) return name;
  return undefined;
}

/** The command's arguments with its placeholders filled in, or why that cannot be. */
export function filledIn(
  argv: readonly string[],
  values: Readonly<Record<string, string>>,
): { readonly argv: string[] } | { readonly why: string } {
  for (const [name, value] of Object.entries(values)) {
    const pattern = Object.hasOwn(PATTERNS, name) ? PATTERNS[name] : undefined;
    if (!pattern)
      return { why: `it names an argument that there is not: ${JSON.stringify(name.slice(0, 64))}` };
    // An alert about a node has no GPU: only a command that needs one is refused.
    if (value !== '' && !pattern.test(value))
      return { why: `${name} must not be ${JSON.stringify(value.slice(0, 64))}` };
  }
  let missing: string | undefined;
  const filled = argv.map((argument) =>
    argument.replaceAll(PLACEHOLDER, (_, name: string) => {
      const value = Object.hasOwn(values, name) ? values[name] : '';
      if (!value) missing ??= name;
      return value ?? '';
    }),
  );
  return missing === undefined ? { argv: filled } : { why: `it needs ${missing}, and the alert has none` };
}
