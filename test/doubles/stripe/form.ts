/** The fields of a form. They are nested as Stripe nests them: `a[b][0][c]=d`. */
export type Params = { [name: string]: string | Params };

export function readForm(text: string): Params {
  const params: Params = {};
  for (const [name, value] of new URLSearchParams(text)) {
    const path = name.split(/[[\]]+/).filter((part) => part !== '');
    let at = params;
    for (const part of path.slice(0, -1)) {
      const next = at[part];
      const group = typeof next === 'object' ? next : {};
      at[part] = group;
      at = group;
    }
    at[path.at(-1) ?? ''] = value;
  }
  return params;
}

export const textAt = (params: Params, ...path: readonly string[]): string | undefined => {
  let at: string | Params | undefined = params;
  for (const part of path) at = typeof at === 'object' ? at[part] : undefined;
  return typeof at === 'string' ? at : undefined;
};

export const groupAt = (params: Params, name: string): Record<string, string> => {
  const group = params[name];
  return typeof group === 'object' ? (group as Record<string, string>) : {};
};
