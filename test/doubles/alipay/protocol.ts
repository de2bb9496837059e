/** The applications that the double knows, each with the number of its seller. */
export const APPS = {
  '2021000000000001': '2088000000000101',
  '2021000000000002': '2088000000000102',
} as const;

/** A fault of the next request. If `of` is set, it is a fault of the next request with this method. */
export interface Fault {
  readonly of?: string;
  readonly kind:
    | 'error'
    | 'nonsense'
    /** The double carries out the request, but does not answer it. */
    | 'accepted'
    | 'refused'
    /** The content of the answer differs from the content that was signed. */
    | 'tampered'
    | 'tampered amount'
    | 'unsigned';
  readonly code?: string;
  readonly subCode?: string;
}
