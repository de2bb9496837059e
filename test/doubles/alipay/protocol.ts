/** The applications that are known at the double, each with its seller. */
export const APPS = {
  '2021000000000001': '2088000000000101',
  '2021000000000002': '2088000000000102',
} as const;

/** What happens to the next request, or to the next one of a method. */
export interface Fault {
  readonly of?: string;
  readonly kind:
    | 'error'
    | 'nonsense'
    /** It is done, and nothing is answered. */
    | 'accepted'
    | 'refused'
    /** The answer says something else than what was signed. */
    | 'tampered'
    | 'tampered amount'
    | 'unsigned';
  readonly code?: string;
  readonly subCode?: string;
}
