const LOOP = /^( *)for \(var (\w+) = 0u; \2 < (\w+); \2\+\+\) \{ \/\/ unrolled\n([\s\S]*?)^\1\}\n/m;

/** `code` with the loops that are marked `unrolled` written out, as often as `constants` say. */
export function unrolled(code: string, constants: Readonly<Record<string, number>>): string {
  const once = code.replace(LOOP, (_, indent: string, index: string, count: string, body: string) =>
    Array.from(
      { length: constants[count]! },
      (_, turn) => `${indent}{\n${body.replaceAll(new RegExp(`\\b${index}\\b`, "g"), `${turn}u`)}${indent}}\n`,
    ).join(""),
  );
  return once === code ? code : unrolled(once, constants);
}
